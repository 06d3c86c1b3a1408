"""The distribution of the worker type `primes`. The entry point is all that taskqueue needs to find it."""

from pathlib import Path

from setuptools import setup

setup(
    name="taskqueue-primes",
    version="1.0",
    description="A taskqueue worker that finds the prime factors of numbers",
    long_description=Path(__file__).with_name("README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    python_requires=">=3.11",
    packages=["taskqueue_primes"],
    install_requires=["taskqueue"],
    entry_points={"worker.plugins": ["primes = taskqueue_primes.worker:Worker.factory"]},
)
