"""nice.ipynb: what is saved in it, and that it runs from its first cell to its last."""

import ast
import base64
import copy
import io
import re
import shutil
import subprocess

import imageio.v3 as imageio
import nbclient
import nbformat
import numpy as np
import pytest
from execute import NOTEBOOK, execute

NUMBER = r"-?\d*\.\d*"


@pytest.fixture(scope="module")
def saved():
    return nbformat.read(NOTEBOOK, 4)


def shrunk(notebook):
    """A copy with a training of seconds."""
    notebook = copy.deepcopy(notebook)
    settings, tiny = "COUPLINGS, UNITS, EPOCHS, COUNT = ", "2, 8, 1, 1280"
    cell = of(notebook, "flow")
    cell.source, count = re.subn(rf"^{settings}[\d_, ]*\d", settings + tiny, cell.source)
    assert count == 1
    return notebook


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def of(notebook, name):
    (cell,) = (cell for cell in notebook.cells if cell.id == name)
    return cell


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def matrices(text):
    """The matrices in what NumPy printed."""
    for block in re.findall(r"\[\[.*?\]\]", text, re.DOTALL):
        yield np.array([re.findall(NUMBER, row) for row in block.split("\n")], float)


# ------------------------------------------------- what holds of the saved and of a fresh run


def every_code_cell_has_run_in_order_without_errors_or_warnings(notebook):
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    for cell in cells:
        assert cell.outputs, cell.id
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", output
            assert not re.search("warn|retracing", output.get("text", ""), re.IGNORECASE), output


def a_coupling_has_an_inverse_and_a_triangular_jacobian_with_a_unit_diagonal(notebook):
    text = printed(of(notebook, "coupling"))
    x, h, back = (re.search(rf"{name} = (\[.*\])", text)[1] for name in ("x", "h", "back"))
    assert x == back != h
    (J,) = matrices(text)
    assert J.shape == (4, 4) and np.array_equal(np.triu(J), np.eye(4)) and J[2:, :2].any()


def without_crossing_a_half_stays_and_with_it_none_does(notebook):
    stacked, crossed = matrices(printed(of(notebook, "crossing")))
    assert np.array_equal(stacked[0::2], np.eye(4)[0::2])  # (12)
    assert ((crossed != 0).sum(axis=1) > 1).all()  # (13)


def the_loss_is_least_where_the_noise_puts_it(notebook):
    centre, corner, noise_free = re.findall(
        rf"lowest at log s = ({NUMBER})", printed(of(notebook, "scale"))
    )
    assert 0 < float(centre) < 2
    assert float(corner) == pytest.approx(np.log(3**0.5 / 0.01), abs=0.02)
    assert float(noise_free) == 7  # the end of the axis


def pictures_are_neither_blank_nor_missing(notebook):
    for name in ("data", "scale", "temperature", "interpolation", "dimension", "shipped", "codes"):
        outputs = of(notebook, name).outputs
        (png,) = (output.data["image/png"] for output in outputs if "data" in output)
        assert imageio.imread(io.BytesIO(base64.b64decode(png))).std() > 10, name


PROPERTIES = [
    every_code_cell_has_run_in_order_without_errors_or_warnings,
    a_coupling_has_an_inverse_and_a_triangular_jacobian_with_a_unit_diagonal,
    without_crossing_a_half_stays_and_with_it_none_does,
    the_loss_is_least_where_the_noise_puts_it,
    pictures_are_neither_blank_nor_missing,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
def test_saved(holds, saved):
    holds(saved)


def test_a_run_from_the_first_cell_to_the_last(saved):
    notebook = shrunk(saved)
    for cell in code(notebook):
        cell.outputs, cell.execution_count = [], None
    before = [(cell.id, cell.source) for cell in notebook.cells]
    execute(notebook)
    for holds in PROPERTIES:
        holds(notebook)
    assert [(cell.id, cell.source) for cell in notebook.cells] == before
    assert notebook.metadata == saved.metadata


# ----------------------------------------------------------------- what holds of the saved


def test_its_training_passes_the_article_s_loss_with_noise(saved):
    losses = [float(x) for x in re.findall(r"val_loss: (\S+)", printed(of(saved, "training")))]
    assert -1951 > losses[-1] == min(losses)


def test_every_formula_has_its_number_and_every_text_its_chinese(saved):
    texts = [cell.source for cell in saved.cells if cell.cell_type == "markdown"]
    for number in (7, 8, 9, 10, 12, 13, 14, 15, 16, 17):
        assert rf"\qquad ({number})" in "".join(texts), number
    for text in texts:
        assert re.search("^> .*[\u4e00-\u9fff]", text, re.MULTILINE), text


def test_it_calls_the_project_and_defines_no_layer(saved):
    source = "\n".join(re.sub("^( *)[!%].*$", r"\1pass", c.source, flags=re.M) for c in code(saved))
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(source)))
    assert "keras.layers" not in source
    for name in (
        "Couple(",
        "Noise(",
        "nice.build(",
        "nice.Flow(",
        "nice.gaussian",
        "nice.load(",
    ):
        assert name in source, name


def test_nothing_in_it_is_of_one_machine_or_one_day(saved):
    with open(NOTEBOOK, encoding="utf-8") as file:
        text = file.read()
    assert text == nbformat.writes(saved) + "\n"  # sorted keys, an indent of 1
    assert len(text) < 600_000
    text = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"(?<![\w.:/<])/(home|root|usr|tmp|work|opt|Users|content)\b", text)
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert saved.metadata.kernelspec.name == "python3"
    assert saved.metadata.language_info == {"name": "python"}
    assert not any(cell.metadata for cell in saved.cells)


# ------------------------------------------------------------ the first cell, alone in a folder


def run_alone(source, folder):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
    return printed(notebook.cells[0])


def test_the_first_cell_says_what_to_do_where_the_project_is_not(saved, tmp_path):
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="address into REPOSITORY"):
        run_alone(of(saved, "setup").source, tmp_path)


@pytest.mark.skipif(not shutil.which("git"), reason="no git, with which the cell clones")
def test_the_first_cell_clones_the_project(saved, tmp_path):
    """As on Colab, where only the notebook is; here the clone is one module that says so."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "nice.py").write_text("print('the clone')")
    (origin / "requirements.txt").write_text("numpy\n")
    git = ["git", "-c", "user.name=nobody", "-c", "user.email=none", "-C", str(origin)]
    for command in ("init -q", "add .", "commit -q -m all"):
        subprocess.run([*git, *command.split()], check=True)
    finding = of(saved, "setup").source.split("from support")[0]
    finding = finding.replace('REPOSITORY = ""', f'REPOSITORY = "file://{origin}"')
    assert "the clone" in run_alone(finding + "import nice", tmp_path)
