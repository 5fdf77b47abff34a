// Calls the gateway with the client that openapi-generator generates from the gateway's OpenAPI document.
// Prints the results as one line of JSON.

import com.google.gson.Gson;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.ApiResponse;
import org.openapitools.client.JSON;
import org.openapitools.client.api.AsksApi;
import org.openapitools.client.api.DocumentsApi;
import org.openapitools.client.api.FeedbackApi;
import org.openapitools.client.api.RunsApi;
import org.openapitools.client.model.Answer;
import org.openapitools.client.model.Ask;
import org.openapitools.client.model.DocumentPosition;
import org.openapitools.client.model.DocumentsAccepted;
import org.openapitools.client.model.Fault;
import org.openapitools.client.model.Feedback;
import org.openapitools.client.model.FieldError;
import org.openapitools.client.model.NewDocument;
import org.openapitools.client.model.PutDocumentsRequest;

public final class PlainCalls {
  private interface Call {
    Object make() throws ApiException;
  }

  private static Fault refused(Call call) throws Exception {
    try {
      throw new AssertionError("not refused: " + call.make());
    } catch (ApiException error) {
      return Fault.fromJson(error.getResponseBody());
    }
  }

  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient().setBasePath(arguments[0]);
    AsksApi asks = new AsksApi(client);
    DocumentsApi documents = new DocumentsApi(client);
    RunsApi runs = new RunsApi(client);

    ApiResponse<Answer> asked = asks.askWithHttpInfo(new Ask().question("Why?"), null, null, null, null, null);
    Answer answer = asked.getData();
    NewDocument one = new NewDocument().id("shelf/one").text("One.");
    NewDocument two = new NewDocument().id("shelf/two").text("Two.");
    List<DocumentsAccepted> accepted = new ArrayList<>();
    accepted.add(documents.putDocuments(new PutDocumentsRequest(one), null, null));
    accepted.add(documents.putDocuments(new PutDocumentsRequest(List.of(two)), null, null));
    accepted.add(documents.deleteDocument("shelf/one", null, null));
    List<String> ids = new ArrayList<>();
    for (DocumentsAccepted each : accepted) {
      for (DocumentPosition landed : each.getDocuments()) ids.add(landed.getId());
    }
    String noted = new FeedbackApi(client)
        .giveFeedback(new Feedback().runId(answer.getRunId()).rating(4), null, null)
        .getRunId();
    Fault problem = refused(() -> asks.ask(new Ask().question(""), null, null, null, null, null));
    List<String> fields = new ArrayList<>();
    for (FieldError each : problem.getErrors()) fields.add(each.getField());
    Fault missing = refused(() -> runs.showRun("none"));

    Map<String, Object> came = new LinkedHashMap<>();
    came.put("answer", List.of(
        answer.getText(), answer.getRung().getValue(), answer.getCached(), answer.getCitations().size()));
    came.put("same_run", asked.getHeaders().get("poise-run").contains(answer.getRunId()));
    came.put("accepted", ids);
    came.put("noted", noted.equals(answer.getRunId()));
    came.put("status", runs.showRun(answer.getRunId()).getStatus().getValue());
    came.put("problem", List.of(problem.getStatus(), problem.getType(), fields));
    came.put("missing", List.of(missing.getStatus(), missing.getType()));
    System.out.println(new Gson().toJson(came));
  }
}
