"""The plainest tokenizer."""


class Characters:
    """A tokenizer of which every character is a token."""

    eot, hash = 0, "characters"

    def encode(self, text):
        return [ord(character) + 1 for character in text]

    def decode(self, ids):
        return "".join(chr(token - 1) for token in ids if token != self.eot)
