"""Run commands of nice.py one after the other on so many virtual devices.

    python several.py 2 '[["--epochs", "1"], …]'

Prints a JSON line for each: {"result": [exit code, stdout, stderr]}. "--killed" at the end of a
command ends it as a kill would, once the state of its first epoch is on the disk.
"""

import contextlib
import io
import json
import os
import sys
import traceback

# The devices are virtual CPUs of JAX.
devices, commands = int(sys.argv[1]), json.loads(sys.argv[2])
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import training
from support import cli, options, resuming

write = resuming.write_state


def write_and_die(*arguments, **options):
    write(*arguments, **options)
    sys.exit("killed")


def run(command):
    killed = command[-1] == "--killed"
    resuming.write_state = write_and_die if killed else write
    sys.argv = ["nice.py", *command[: len(command) - killed]]
    code, stdout, stderr = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            cli.run(training.main, options.training())
        except SystemExit as end:
            code = end.code
        except Exception:
            code = 1
            traceback.print_exc()
    return [code, stdout.getvalue(), stderr.getvalue()]


for command in commands:
    print(json.dumps({"result": run(command)}), flush=True)
