// Calls the gateway with openapi-fetch and the types that openapi-typescript generates from its OpenAPI document.
// Prints the results as one line of JSON.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Answer = components["schemas"]["Answer"];
type Fault = components["schemas"]["Fault"];

function found<T>(data: T | undefined, error: Fault | undefined): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });

const asked = await client.POST("/v1/ask", { body: { question: "Why?" } });
const said: Answer | string = found(asked.data, asked.error);
if (typeof said === "string") throw new Error("events, which were not asked for");
const answer: Answer = said;
const one = await client.POST("/v1/documents", { body: { id: "shelf/one", text: "One." } });
const accepted = found(one.data, one.error);
const many = await client.POST("/v1/documents", { body: [{ id: "shelf/two", text: "Two." }] });
const gone = await client.DELETE("/v1/documents/{id}", { params: { path: { id: "shelf/one" } } });
const given = await client.POST("/v1/feedback", { body: { run_id: answer.run_id, rating: 4 } });
const shown = await client.GET("/v1/runs/{id}", { params: { path: { id: answer.run_id } } });
const refused = await client.POST("/v1/ask", { body: { question: "" } });
const problem: Fault | undefined = refused.error;
const missing = await client.GET("/v1/runs/{id}", { params: { path: { id: "none" } } });

console.log(
  JSON.stringify({
    answer: [answer.text, answer.rung, answer.cached, answer.citations.length],
    same_run: answer.run_id === asked.response.headers.get("poise-run"),
    accepted: [accepted, found(many.data, many.error), found(gone.data, gone.error)].flatMap((each) =>
      each.documents.map((document) => document.id),
    ),
    noted: found(given.data, given.error).run_id === answer.run_id,
    status: found(shown.data, shown.error).status,
    problem: [problem?.status, problem?.type, problem?.errors.map((each) => each.field)],
    missing: [missing.response.status, missing.error?.type],
  }),
);
