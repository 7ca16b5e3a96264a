"""The entry that older tools ask for; name, dependencies and extras are in pyproject.toml."""

import setuptools

setuptools.setup()
