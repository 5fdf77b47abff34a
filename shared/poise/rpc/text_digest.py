"""Text digest: compares texts, except for surrounding white space, in constant memory."""

from hashlib import blake2b


class TextDigest:
    """The digest of a text that arrives in parts."""

    def __init__(self, text: str = "") -> None:
        self._all = blake2b()
        """The digest from the first character that is not white space."""
        self._trimmed = self._all.copy()
        """The same, up to the last character that is not white space."""
        self._begun = False
        self.add(text)

    def add(self, text: str) -> None:
        """Append text."""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        trimmed = text.rstrip()
        if trimmed:
            self._all.update(trimmed.encode(errors="surrogatepass"))
            self._trimmed = self._all.copy()
        self._all.update(text[len(trimmed) :].encode())

    def digest(self) -> bytes:
        """Return the digest of the text so far."""
        return self._trimmed.digest()

    def matches(self, text: str) -> bool:
        """Return whether the text so far is this text, except for surrounding white space."""
        return self.digest() == TextDigest(text).digest()
