"""Run nice.ipynb from its first cell to its last, and keep the outputs in it: make notebook."""

import os
import sys

import nbclient
import nbformat

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, files, options

NOTEBOOK = os.path.join(options.HERE, "nice.ipynb")


def execute(notebook):
    """Run all cells of `notebook`, in the project's folder and in a fresh kernel; in place.

    Raises: `nbclient.exceptions.CellExecutionError` where a cell fails.
    """
    client = nbclient.NotebookClient(
        notebook,
        timeout=None,  # a busy machine may take its time
        resources={"metadata": {"path": options.HERE}},
        coalesce_streams=True,
        record_timing=False,  # what would change with every run
    )
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}  # likewise: its version


def main():
    notebook = nbformat.read(NOTEBOOK, 4)
    execute(notebook)
    nbformat.validate(notebook)
    files.write(NOTEBOOK, nbformat.writes(notebook) + "\n")  # sorted keys, an indent of 1
    print(f"{os.path.basename(NOTEBOOK)}: {os.path.getsize(NOTEBOOK) / 1000:.0f} kB")


if __name__ == "__main__":
    cli.run(main)
