"""The distribution of the worker type `probe`. The entry point is all that taskqueue needs to find it."""

from pathlib import Path

from setuptools import setup

setup(
    name="taskqueue-probe",
    version="1.0",
    description="A taskqueue worker that tells whether network services answer, and how fast",
    long_description=Path(__file__).with_name("README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    python_requires=">=3.11",
    packages=["taskqueue_probe"],
    install_requires=["taskqueue"],
    entry_points={"worker.plugins": ["probe = taskqueue_probe.worker:Worker.factory"]},
)
