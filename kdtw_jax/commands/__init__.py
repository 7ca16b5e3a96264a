"""The command `kdtw`: what people do with a trained pair, one file per command."""
