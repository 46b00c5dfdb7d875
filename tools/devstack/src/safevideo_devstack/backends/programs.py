"""Programs of the machine that a local stack is made of."""

import os
import re
import shutil
import subprocess

SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # where servers live, and what most users' PATH leaves out


def find(program: str) -> str | None:
    """Its full path, or None."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}")


def java_version() -> int:
    """Feature release of the Java that `java` starts, such as 17; 0 when there is none."""
    if not (java := find("java")):
        return 0
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else 0
