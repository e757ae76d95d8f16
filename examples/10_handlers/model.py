"""The program of the payload: tells in which language a text is written.

It can be run by itself, too: python model.py, then POST to http://127.0.0.1:5555/call/detect.
"""

from __future__ import annotations

import math
from collections import Counter

from pydantic import BaseModel, Field

from requestor_sdk import handlers

SAMPLES = {
    "english": "the quick brown fox jumps over the lazy dog and then it runs away from all of the "
    "people who would like to have a look at what it has done with their house this morning",
    "german": "der schnelle braune fuchs springt über den faulen hund und dann läuft er weg von "
    "all den leuten die gern sehen würden was er heute morgen mit ihrem haus gemacht hat",
    "french": "le rapide renard brun saute par dessus le chien paresseux et puis il court loin de "
    "tous les gens qui voudraient bien voir ce que il a fait de leur maison ce matin",
    "spanish": "el rápido zorro marrón salta sobre el perro perezoso y luego corre lejos de toda "
    "la gente que quisiera ver lo que ha hecho con su casa esta mañana",
}


class Text(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)


class Guess(BaseModel):
    language: str
    confidence: float = Field(ge=0, le=1)


class NaiveBayes:
    """Counts pairs and triples of letters, and weighs them against each other."""

    def __init__(self, samples: dict[str, str]) -> None:
        self.counts = {name: Counter(self.features(text)) for name, text in samples.items()}
        self.known = len(set().union(*self.counts.values()))

    @staticmethod
    def features(text: str) -> list[str]:
        padded = f" {' '.join(text.lower().split())} "
        return [padded[at : at + size] for size in (2, 3) for at in range(len(padded) - size + 1)]

    def guess(self, text: str) -> Guess:
        found = self.features(text)
        scores = {}
        for name, counts in self.counts.items():
            total = sum(counts.values()) + self.known
            scores[name] = sum(math.log((counts[each] + 1) / total) for each in found)
        best = max(scores, key=scores.__getitem__)
        weights = [math.exp(score - scores[best]) for score in scores.values()]
        return Guess(language=best, confidence=1 / sum(weights))


models: dict[str, NaiveBayes] = {}


@handlers.init()
def train() -> None:
    models["languages"] = NaiveBayes(SAMPLES)


@handlers.expose(idempotent=True)
def detect(data: Text) -> Guess:
    return models["languages"].guess(data.text)


if __name__ == "__main__":
    handlers.start()
