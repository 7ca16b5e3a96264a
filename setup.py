"""Metadata, dependencies and extras of kdtw_jax."""

import setuptools

# tensorflow-datasets imports importlib_resources when it prepares data, and does not ask for it.
TFDS = ["tensorflow-datasets>=4.9.9", "array_record>=0.8", "importlib_resources>=6"]
TEST = ["pytest>=8", "hypothesis>=6", "beartype>=0.20", "ruff>=0.9", "pyink>=26.5,<27", *TFDS]

setuptools.setup(
    name="kdtw_jax",
    version="0.1.0",
    description="Knowledge distillation with training wheels in JAX: students that learn when to "
    "ask their teacher, within a budget given in words",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["kdtw_jax", "kdtw_jax.*"]),
    package_data={"kdtw_jax.report": ["*.jinja"]},
    install_requires=[
        "absl-py>=2.1",
        "babel>=2.16,<3",
        "flax>=0.12,<0.13",
        "grain>=0.2.12",
        "jax>=0.10,<0.12",
        "jaxtyping>=0.3",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "matplotlib>=3.9",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.20",
        "rich>=13",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.5",
        "safetensors>=0.5",
        "sentencepiece>=0.2",
        "tensorboardX>=2.6",
        "tokenizers>=0.22",
        "transformers>=5.0",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "tfds": TFDS,
        "test": TEST,
        "parity": ["torch==2.13.0", "ctranslate2>=4.8"],
    },
)
