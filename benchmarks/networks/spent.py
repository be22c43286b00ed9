"""Run a command, and write to a file what it took: processor time in seconds, largest memory in MB, as JSON.

    python spent.py FILE COMMAND...

The operating system counts the memory of whoever starts a process as that process's too: this one has little.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
spent = {"processor_s": round(used.ru_utime + used.ru_stime, 2), "peak_mb": round(used.ru_maxrss * 1024 / 1e6)}
Path(sys.argv[1]).write_text(json.dumps(spent))
sys.exit(code)
