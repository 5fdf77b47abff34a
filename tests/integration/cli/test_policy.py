import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from integration_kit import Command, settings_for_another_process, until

from poise.contracts import Draw, RunRecord, Score
from poise.contracts.policy import Decision
from poise.contracts.topics import DECISIONS, RECORDS, SCORES
from poise.policy import control, decision_log
from poise.run_log.decoding import decodable
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_services.evaluation.policy_worker import policy_worker
from poise_services.evaluation.settings import EvaluationSettings

pytestmark = pytest.mark.integration

WITHIN = 30.0


@pytest.fixture
def name() -> str:
    return f"p-{uuid4().hex[:8]}"


@pytest.fixture
def file(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "poise.toml"
    path.write_text(
        f"""\
[orchestration]
policy = "{name}"
[[orchestration.variants]]
name = "steady"
[[orchestration.variants]]
name = "cheap"
[policy]
mean_answers_between_false_alarms = 200
cooldown_answers = 1
"""
    )
    return path


def changed(file: Path, old: str, new: str) -> str:
    """Replace text in a file; return its path."""
    file.write_text(file.read_text().replace(old, new))
    return str(file)


@asynccontextmanager
async def worker(settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Run an evaluation worker until it decides."""
    async with (
        WorkerRuntime(settings_for_another_process(settings), tier="evaluation") as mesh,
        policy_worker(mesh, EvaluationSettings()),
    ):
        await until(lambda: mesh.readiness()["deciding"])
        yield mesh


async def publish_scored_runs(mesh: WorkerRuntime, name: str, count: int, *, cheap: float, first: int = 0) -> None:
    """Publish `count` scored runs, alternately of both variants: quality 0.9 for `steady`, `cheap` for the other."""
    publishing = []
    for number in range(first, first + count):
        variant = ("steady", "cheap")[number % 2]
        run = f"{name}-{number}"
        score = Score(
            run_id=run,
            workflow="answer",
            tenant="t",
            policy=name,
            policy_version=1,
            variant=variant,
            probability=0.5,
            rung="primary",
            at=float(number),
            values={"quality": 0.9 if variant == "steady" else cheap, "raw_ms": 100.0, "raw_fault": 0.0},
        )
        record = RunRecord(
            run_id=run,
            workflow="answer",
            tenant="t",
            question=f"What is {number}?",
            started=1.0,
            finished=2.0,
            draw=Draw(variant=variant, probability=0.5, policy=name, policy_version=1, raw=f"It is {number + 1}."),
        )
        publishing.append(mesh.producer.publish(SCORES, score, key=name))
        publishing.append(mesh.producer.publish(RECORDS, record, key=run))
    await asyncio.gather(*publishing)


async def read_decisions(mesh: WorkerRuntime, name: str, count: int) -> list[Decision]:
    """Wait for at least `count` decisions and return them."""
    found: list[Decision] = []
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(DECISIONS.name) as follower:
        async for batch in follower:
            found += [decision for _, decision in decodable(Decision, batch) if decision.policy == name]
            if len(found) >= count:
                return found
    raise AssertionError


async def run_with_json(poise: Command, *arguments: str) -> Any:
    """Return the parsed output of a command with `--json`."""
    result = await poise("policy", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


async def test_an_operator_sets_reverts_holds_and_replays_a_policy(
    poise: Command, mesh_settings: MeshSettings, name: str, file: Path
) -> None:
    shown = await poise("policy", "show", name)
    assert "was never set" in shown.stdout
    async with worker(mesh_settings) as mesh:
        # set
        shown = await poise("policy", "set", str(file), "--reason", "try the cheap one")
        assert shown.exit_code == 0, shown.stderr
        assert f"{name}-1" in shown.stdout
        assert "try the cheap one" in shown.stdout
        current = await run_with_json(poise, "show", name)
        assert current["policy"]["weights"] == {"steady": 0.5, "cheap": 0.5}
        assert current["policy"]["by"] == control.current_user()
        assert current["last"]["action"] == "set"

        # the loop changes the weights and explains it
        await publish_scored_runs(mesh, name, 400, cheap=0.1)
        decisions = await read_decisions(mesh, name, 2)
        assert decisions[1].variant == "cheap"
        assert decisions[1].acted
        explained = await poise("policy", "explain", f"{name}-2")
        for expected in (
            "Evidence",
            "Confidence",
            "Answers with the most weight",
            "“What is ",
            "It is ",
            "poise policy hold",
        ):
            assert expected in explained.stdout
        explanation = await run_with_json(poise, "explain", f"{name}-2")
        assert explanation["decision"]["finding"]["variant"] == "cheap"
        assert set(explanation["runs"]) == set(explanation["decision"]["finding"]["runs"][:5])

        # an operator overrules it
        assert "→ 50 %" in (await poise("policy", "revert", "1", "--policy", name)).stdout
        assert (await run_with_json(poise, "show", name))["policy"]["weights"] == {"steady": 0.5, "cheap": 0.5}
        assert (await run_with_json(poise, "hold", name, "--reason", "wait"))["action"] == "hold"
        assert (await run_with_json(poise, "show", name))["policy"]["held"] is True
        assert (await run_with_json(poise, "release", name))["action"] == "release"
        refused = await poise("policy", "revert", "99", "--policy", name)
        assert refused.exit_code == 1
        assert "there is no version 99" in refused.stderr
        assert (await run_with_json(poise, "set", str(file), "--dry-run"))["acted"] is True
        current = await run_with_json(poise, "show", name)
        assert current["policy"]["spec"]["dry_run"] is True
        assert {row["variant"]: row["answers"] for row in current["variants"]} == {"steady": 200, "cheap": 200}
        assert "dry run" in (await poise("policy", "show", name)).stdout

        # the log contains every decision, and a replay of the logs reproduces them
        listed = (await poise("policy", "log", name, "--json", "--last", "1000")).stdout.splitlines()
        ids = [json.loads(line)["id"] for line in listed]
        assert ids == [f"{name}-{number}" for number in range(1, len(ids) + 1)]
        replayed = await run_with_json(poise, "replay", name)
        assert replayed["difference"] is None
        assert replayed["skipped"] == 0
        assert replayed["reproduced"] == replayed["decisions"] == len(ids)
        shown = await poise("policy", "replay", name)
        assert f"{len(ids)} of {len(ids)} decisions reproduced" in shown.stdout

        # a replay reports a decision that no score or command explains
        invented = decisions[1].model_copy(update={"id": f"{name}-{len(ids) + 1}"})
        await mesh.producer.publish(DECISIONS, invented, key=name)
        shown = await poise("policy", "replay", name)
        assert shown.exit_code == 1
        assert f"{invented.id} is in the log, but was not reproduced" in " ".join(shown.stdout.split())

        # a replay with another file: its score moves no weight, so only operators act
        other = changed(file, "cooldown_answers = 1", 'score = "raw_relevance"')
        supposed = (await poise("policy", "replay", name, "--with", other, "--json")).stdout.splitlines()
        assert {json.loads(line)["by"] for line in supposed} == {control.current_user()}


async def test_a_command_without_an_evaluation_worker_is_executed_when_one_starts(
    poise: Command, mesh_settings: MeshSettings, name: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "DECISION_TIMEOUT", 0.5)
    asked = await poise("policy", "set", str(file))
    assert asked.exit_code == 1
    assert "an evaluation worker must run" in asked.stderr
    async with worker(mesh_settings) as mesh:
        [decision] = await read_decisions(mesh, name, 1)
    assert decision.action == "set"


async def test_new_decisions_are_followed(poise: Command, mesh_settings: MeshSettings, name: str) -> None:
    seen: list[str] = []
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        following = asyncio.create_task(follow(mesh, name, seen))
        for number in range(1, 4):
            decision = Decision(
                id=f"{name}-{number}", policy=name, action="hold", acted=True, reason="r",
                before={}, after={}, version=1, by="jane", at=1.0, next_score_offset=0,
            )  # fmt: skip
            await mesh.producer.publish(DECISIONS, decision, key=name)
            await until(lambda number=number: len(seen) == number)  # type: ignore[misc]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    listed = await poise("policy", "log", name, "--last", "2", "--json")
    assert seen == [f"{name}-1", f"{name}-2", f"{name}-3"]
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == seen[1:]


async def follow(mesh: WorkerRuntime, name: str, seen: list[str]) -> None:
    async for batch in decision_log.follow_decisions(mesh.logs, name, last=20, follow=True):
        seen.extend(decision.id for decision in batch)


async def test_an_invalid_file_is_refused_with_its_lines(poise: Command, file: Path) -> None:
    refused = await poise("policy", "set", changed(file, "cooldown_answers = 1", "cooldown_answer = 1\nmin_score = 2"))
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.splitlines() == [
        f"poise: {file}:9: [policy] has no setting cooldown_answer: did you mean cooldown_answers?",
        f"poise: {file}:10: min_score = 2: write 1 or less: it is the minimum mean of the score that steers",
    ]


async def test_a_policy_without_decisions(poise: Command, name: str) -> None:
    nothing = await poise("policy", "explain", "--policy", name)
    assert nothing.exit_code == 1
    assert "there are no decisions about" in nothing.stderr
    assert "there are no decisions about" in (await poise("policy", "log", name)).stdout
    replayed = await run_with_json(poise, "replay", name)
    assert (replayed["decisions"], replayed["difference"]) == (0, None)
