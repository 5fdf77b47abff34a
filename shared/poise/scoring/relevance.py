"""Relevance: whether an answer says what the sentence says that bears most on the question.

An answer can be made of the passages' words and still answer another question, or only repeat the one that was asked.
"""

from poise.scoring.evidence import Evidence
from poise.scoring.extraction import extract_sentences
from poise.scoring.tokenization import sentences, stems


def relevance(answer: str, evidence: Evidence, question: str) -> float:
    """The weighted share of what each sentence adds to the question that stands in the line that answers it best.

    Between the answer-relevance of Ragas (Es et al., "RAGAS", EACL 2024), which asks a model, and plain containment. On
    296 answers of the small model, judged one by one, it tells right from wrong as well as groundedness does (AUC 0.76
    each) and knows other wrong ones: that model may quote the passages well and miss what was asked.

    Returns:
        0 to 1, that of the sentence which adds least of it; 0 for one that only repeats the question.
    """
    lines = extract_sentences(question, evidence, 1)
    if not lines:
        return 0.0
    asked = frozenset(stems(question))
    added = [[stem for stem in stems(sentence) if stem not in asked] for sentence in sentences(answer)]
    return min((evidence.containment(new, lines[0].vocabulary) for new in added), default=0.0)
