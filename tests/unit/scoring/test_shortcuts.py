"""Optimizations of scoring change no score: each is compared bit for bit with the full computation that it replaces."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from poise.contracts import Passage
from poise.scoring import Evidence, EvidenceSentence, extract_sentences, groundedness, is_looping
from poise.scoring import extraction as ways
from poise.scoring.groundedness import _CANDIDATE_WINDOWS, _common_subsequence_weight, _windows
from poise.scoring.tokenization import _CODE, _NAME, _NUMBER, checkable_facts, stems, words

TEXT = "Alpha beta gamma. Beta gamma. Gamma delta alpha beta."
EVIDENCE = Evidence([Passage(id="p#0", source="p", text=TEXT, score=1.0, age=0.0)])
WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]), max_size=12)
SENTENCE = st.lists(
    st.sampled_from(["Alpha", "beta", "gamma", "delta", "epsilon", "zeta", "When", "not", "12", "7"]),
    min_size=1,
    max_size=9,
)
PASSAGES = st.lists(
    st.tuples(st.sampled_from(["", "Alpha", "Delta › Zeta"]), st.lists(SENTENCE, max_size=5)), max_size=4
)


def evidence_of(passages: list[tuple[str, list[list[str]]]]) -> Evidence:
    """Return evidence of short passages, each of some sentences."""
    texts = [(heading, " ".join(" ".join(said).capitalize() + "." for said in some)) for heading, some in passages]
    return Evidence(
        [
            Passage(id=f"p#{number}", source="p", heading=heading or None, text=text, score=1.0, age=0.0)
            for number, (heading, text) in enumerate(texts)
        ]
    )


def weighted_stems(said: Sequence[str], evidence: Evidence) -> list[tuple[str, float]]:
    """Return stems with their weights."""
    return [(stem, evidence.weight(stem)) for stem in said]


def whole_table(said: Sequence[str], there: Sequence[str], evidence: Evidence) -> float:
    """Return the weight of the longest common subsequence, computed from the full table."""
    best = [0.0] * (len(there) + 1)
    for stem in said:
        before, best = best, [0.0]
        for place, other in enumerate(there, 1):
            both = before[place - 1] + evidence.weight(stem)
            best.append(both if stem == other else max(before[place], best[-1]))
    return best[-1]


@given(said=WORDS, there=WORDS)
@example(said=["alpha", "beta", "alpha"], there=["beta", "alpha", "alpha", "beta"])
def test_common_subsequence_weight_equals_that_of_the_full_table(said: list[str], there: list[str]) -> None:
    assert _common_subsequence_weight(weighted_stems(said, EVIDENCE), there) == whole_table(said, there, EVIDENCE)


def windows(said: Sequence[str], evidence: Evidence) -> list[tuple[EvidenceSentence, tuple[str, ...]]]:
    """Return the best windows that contain any of the words, ranked by their exact weights."""
    ranked = []
    for place, line in enumerate(evidence.lines):
        after = next((one for one in evidence.lines[place + 1 : place + 2] if one.rank == line.rank), None)
        both = line.vocabulary | (after.vocabulary if after else frozenset())
        if both & set(said):
            weights = evidence.weigh(both & set(said)), evidence.weigh(line.vocabulary & set(said))
            ranked.append((weights, line, line.stems + (after.stems if after else ())))
    ranked.sort(key=lambda item: item[0], reverse=True)
    return [(line, there) for _, line, there in ranked[:_CANDIDATE_WINDOWS]]


@given(passages=PASSAGES, sentence=SENTENCE)
def test_windows_are_the_best_of_all_windows(passages: list[tuple[str, list[list[str]]]], sentence: list[str]) -> None:
    evidence, said = evidence_of(passages), stems(" ".join(sentence))
    found = [(one.line, one.stems) for one in _windows(weighted_stems(said, evidence), evidence)]
    assert found == windows(said, evidence)


@given(passages=PASSAGES)
def test_weight_of_a_word_depends_on_its_line_frequency(passages: list[tuple[str, list[list[str]]]]) -> None:
    evidence = evidence_of(passages)
    for stem in ("alpha", "beta", "not", "omega"):
        frequency = sum(stem in line.vocabulary for line in evidence.lines)
        assert evidence.weight(stem) == math.log(1 + (len(evidence.lines) + 1) / (frequency + 0.5))


@given(passages=PASSAGES, sentence=SENTENCE)
@example(  # the first has all words in order, the second most of them, more of them adjacent
    passages=[("", [["alpha", "one", "beta", "two", "gamma", "delta"]]), ("", [["alpha", "beta", "gamma"]])],
    sentence=["alpha", "beta", "gamma", "delta"],
)
def test_no_better_window_is_skipped(passages: list[tuple[str, list[list[str]]]], sentence: list[str]) -> None:
    evidence, said = evidence_of(passages), stems(" ".join(sentence).lower())
    best, cited = 0.0, None
    for line, there in windows(said, evidence):
        pairs = list(pairwise(said))
        beside = sum(pair in set(pairwise(there)) for pair in pairs) / len(pairs) if pairs else float(said[0] in there)
        borne = (whole_table(said, there, evidence) / (evidence.weigh(said) or 1.0) + beside) / 2
        if cited is None or borne > best:
            best, cited = borne, line
    judged = groundedness(" ".join(said), evidence)
    assert judged.citations == (() if cited is None else (cited.citation,))
    assert judged.score in {best, best * 0.5, best * 0.8, best * 0.5 * 0.8}  # with the factors of facts and denials


@given(passages=PASSAGES, question=SENTENCE, number=st.integers(0, 5))
@example(  # both contain as much of it, the second at its beginning
    passages=[("", [["zeta", "gamma", "not", "alpha"], ["alpha", "gamma", "not", "zeta"]])],
    question=["alpha"],
    number=1,
)
def test_extracted_lines_are_the_best_of_all_lines(
    passages: list[tuple[str, list[list[str]]]], question: list[str], number: int
) -> None:
    evidence, asked = evidence_of(passages), " ".join(question)
    weights = {stem: evidence.weight(stem) for stem in stems(asked)}
    whole = ways._Question(weights, evidence.weigh(weights) or 1.0, bool(ways._ASKS_ABOUT_CONDITION.search(asked)))
    ranked: list[tuple[float, EvidenceSentence]] = []
    for place, line in enumerate(evidence.lines):
        before = evidence.lines[place - 1] if line.index else None
        covered = 0.0
        for stem, weight in weights.items():
            if stem in line.vocabulary:
                covered += weight
            elif stem in evidence.headings[line.rank]:
                covered += ways._HEADING_WEIGHT * weight
            elif before is not None and stem in before.vocabulary:
                covered += ways._PREVIOUS_SENTENCE_WEIGHT * weight
        if covered > 0:
            ranked.append(
                (covered / whole.whole * ways._shape_factor(whole, line) + ways._position_bonus(whole, line), line)
            )
    ranked.sort(key=lambda item: -item[0])
    assert extract_sentences(asked, evidence, number) == [line for _, line in ranked[:number]]


@given(said=st.text(st.sampled_from("aB1_.`() \n\tÄé'’"), max_size=40))
def test_checkable_facts_equal_those_of_the_patterns(said: str) -> None:
    found = dict.fromkeys([*_NUMBER.findall(said), *_CODE.findall(said), *_NAME.findall(said)])
    assert checkable_facts(said) == [fact for fact in found if fact not in {"e.g", "i.e"}]


@given(said=st.lists(st.sampled_from(["a", "b"]), max_size=20))
def test_is_looping_equals_the_count_of_repeated_word_sequences(said: list[str]) -> None:
    text = " ".join(said)
    grams = Counter(words(text)[start : start + 4] for start in range(len(said) - 3))
    assert is_looping(text) is any(times >= 3 for times in grams.values())
