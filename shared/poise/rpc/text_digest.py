"""Text digest: what a text says, but for white space around it, in constant memory however long it is."""

from hashlib import blake2b


class TextDigest:
    """A text that comes in parts."""

    def __init__(self, text: str = "") -> None:
        self._all = blake2b()
        """Of all that came, from the first character that is not white space."""
        self._words = self._all.copy()
        """Of that, up to the last one."""
        self._begun = False
        self.add(text)

    def add(self, text: str) -> None:
        """Put more behind it."""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        words = text.rstrip()
        if words:
            self._all.update(words.encode(errors="surrogatepass"))
            self._words = self._all.copy()
        self._all.update(text[len(words) :].encode())

    def digest(self) -> bytes:
        """Of what came so far."""
        return self._words.digest()

    def matches(self, text: str) -> bool:
        """Whether it is this text, but for white space around it."""
        return self.digest() == TextDigest(text).digest()
