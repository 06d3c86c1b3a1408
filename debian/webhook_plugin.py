"""Gives the plugin `webhook` to the package python-taskqueue-http, which brings what it needs: pycurl, and its user.

    webhook_plugin.py SITE DIRECTORY

1. `SITE/taskqueue-0.1.0.dist-info/entry_points.txt` loses the line `webhook = …`: a workerpool without the package must
   not run it, whether or not pycurl is installed.
2. `DIRECTORY/taskqueue_webhook-0.1.0.dist-info` gets it: that is a plugin's package as any other, which comes and goes.
"""

import re
import sys
from pathlib import Path

LINE = re.compile(r"^webhook *= *(\S+).*\n", re.MULTILINE)

site, directory = map(Path, sys.argv[1:])
(info,) = site.glob("taskqueue-*.dist-info")
version = info.name.removeprefix("taskqueue-").removesuffix(".dist-info")
entry_points = info / "entry_points.txt"
text = entry_points.read_text()
found = LINE.search(text)
if found is None:
    sys.exit(f"{entry_points}: no entry point webhook")
entry_points.write_text(LINE.sub("", text))
record = info / "RECORD"
record.write_text(re.sub(r"(/entry_points\.txt),.*", r"\1,,", record.read_text()))  # not as it was any more
plugin = directory / f"taskqueue_webhook-{version}.dist-info"
plugin.mkdir(parents=True)
(plugin / "entry_points.txt").write_text(f"[worker.plugins]\nwebhook = {found[1]}\n")
(plugin / "METADATA").write_text(f"Metadata-Version: 2.1\nName: taskqueue-webhook\nVersion: {version}\n")
