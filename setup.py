"""The distribution `taskqueue`; pyproject.toml only configures tools."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The version in taskqueue/__init__.py, read without importing it."""
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "taskqueue" / "__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def readme() -> str:
    """README.rst, where there is one."""
    path = HERE / "README.rst"
    return path.read_text() if path.exists() else ""


setup(
    name="taskqueue",
    version=version(),
    description="Divides work among Debian hosts over AMQP",
    long_description=readme(),
    long_description_content_type="text/x-rst",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["taskqueue", "taskqueue.*"]),
    package_data={"taskqueue": ["py.typed"]},
    install_requires=[
        # Debian 12's versions are the oldest supported
        "pika>=1.2.0",
        "configobj>=5.0.8",
        "python-daemon>=2.3.2",
        "click>=8.1",
        "rich>=13",
    ],
    extras_require={
        "title": ["setproctitle>=1.3"],
        # Debian 12's versions are the oldest supported
        "http": ["pycurl>=7.45.2", "aiohttp>=3.8.4"],
        "postgresql": ["psycopg[binary]>=3.1.7"],
        "test": ["pytest>=7.2", "pytest-timeout>=2.1", "pytest-xdist>=3.1", "hypothesis>=6.67"],
        # pinned: each release of these finds something new in unchanged code
        "lint": ["ruff~=0.17.6", "mypy~=2.4.1"],
    },
    entry_points={
        "console_scripts": [
            "taskqueue = taskqueue.cli.main:main",
            "taskqueue-dispatcher = taskqueue.cli.dispatcher:main",
            "taskqueue-workerpool = taskqueue.cli.workerpool:main",
            "taskqueue-http = taskqueue.cli.front:main",
        ],
        "worker.plugins": [
            "webhook = taskqueue.webhook.plugin:Webhook.factory [http]",
        ],
        "taskqueue.workitems": [
            "text/plain = taskqueue.workitem:parse_text",
            "application/json = taskqueue.workitem:parse_json",
        ],
    },
)
