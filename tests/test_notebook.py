"""nice.ipynb: what is saved in it, and that it runs from its first cell to its last."""

import ast
import base64
import copy
import io
import os
import re
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
    cell = of(notebook, "flow")
    settings = r"^COUPLINGS, UNITS, EPOCHS, COUNT = [\d, _]+"
    cell.source, count = re.subn(
        settings, "COUPLINGS, UNITS, EPOCHS, COUNT = 2, 8, 1, 1280 ", cell.source
    )
    assert count == 1
    return notebook


@pytest.fixture(scope="module")
def fresh(saved):
    notebook = shrunk(saved)
    for cell in code(notebook):
        cell.outputs, cell.execution_count = [], None
    execute(notebook)
    return notebook


@pytest.fixture(params=["saved", "fresh"])
def either(request):
    return request.getfixturevalue(request.param)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def of(notebook, name):
    (cell,) = (cell for cell in notebook.cells if cell.id == name)
    return cell


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pictures(cell):
    found = [output.data["image/png"] for output in cell.outputs if "data" in output]
    return [imageio.imread(io.BytesIO(base64.b64decode(png))) for png in found]


def matrices(text):
    """The square matrices in what NumPy printed."""
    for block in re.findall(r"\[\[.*?\]\]", text, re.DOTALL):
        yield np.array([re.findall(NUMBER, row) for row in block.split("\n")], float)


def test_every_code_cell_has_run_in_order_without_errors_or_warnings(either):
    assert [cell.execution_count for cell in code(either)] == [*range(1, len(code(either)) + 1)]
    for cell in code(either):
        assert cell.outputs, cell.id
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", output
            assert not re.search("warn|retracing", output.get("text", ""), re.IGNORECASE), output


def test_the_printed_jacobian_of_a_coupling_is_triangular_with_a_unit_diagonal(either):
    (J,) = matrices(printed(of(either, "coupling")))
    assert J.shape == (4, 4)
    assert np.array_equal(np.triu(J), np.eye(4)) and J[2:, :2].all()


def test_the_inverse_brings_x_back(either):
    text = printed(of(either, "coupling"))
    x, h, back = (re.search(rf"{name} = (\[.*\])", text)[1] for name in ("x", "h", "back"))
    assert x == back != h


def test_without_crossing_a_half_stays_and_with_it_none_does(either):
    stacked, crossed = matrices(printed(of(either, "crossing")))
    assert np.array_equal(stacked[0::2], np.eye(4)[0::2])  # (12)
    assert (crossed != 0).all(axis=1).any()  # (13)
    assert ((crossed != 0).sum(axis=1) > 1).all()


def test_the_least_loss_is_where_the_noise_puts_it(either):
    lowest = re.findall(rf"log s = ({NUMBER})", printed(of(either, "scale")))
    assert 0 < float(lowest[0]) < 2
    assert float(lowest[1]) == pytest.approx(np.log(3**0.5 / 0.01), abs=0.02)
    assert float(lowest[2]) == 7  # the end of the axis: no least loss without noise


def test_pictures_are_neither_blank_nor_missing(either):
    for name in ("data", "scale", "temperature", "interpolation", "dimension", "shipped", "codes"):
        (image,) = pictures(of(either, name))
        assert image.std() > 10, name


def test_training_has_passed_the_article_s_loss(saved):
    losses = [float(x) for x in re.findall(r"val_loss: (\S+)", printed(of(saved, "training")))]
    assert losses[-1] < losses[0] and losses[-1] < -1951


def test_every_formula_has_its_number_and_every_text_its_chinese(saved):
    texts = [cell.source for cell in saved.cells if cell.cell_type == "markdown"]
    for number in (7, 8, 9, 10, 12, 13, 14, 15, 16, 17):
        assert rf"\qquad ({number})" in "".join(texts), number
    for text in texts:
        assert re.search("^> .*[\u4e00-\u9fff]", text, re.MULTILINE), text


def test_it_calls_the_project_and_defines_no_layer(saved):
    source = "\n".join(re.sub("^( *)[!%].*$", r"\1pass", c.source, flags=re.M) for c in code(saved))
    tree = ast.walk(ast.parse(source))
    assert not any(isinstance(node, ast.ClassDef) for node in tree)
    assert "keras.layers" not in source
    for name in (
        "Couple(",
        "Noise(",
        "nice.build(",
        "nice.Flow(",
        "nice.gaussian",
        "Trained.load(",
    ):
        assert name in source, name


def test_nothing_in_it_is_of_one_machine(saved):
    assert os.path.getsize(NOTEBOOK) < 600_000
    with open(NOTEBOOK, encoding="utf-8") as file:
        text = re.sub(r'"image/png": "[^"]*"', "", file.read())
    assert not re.search(r"(?<![:/\w<.])/(home|root|usr|tmp|work|Users|content)\b|[A-Z]:\\\\", text)
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert saved.metadata.kernelspec.name == "python3"
    assert saved.metadata.language_info == {"name": "python"}
    assert not any(cell.metadata for cell in saved.cells)


def test_making_it_again_changes_only_outputs(saved, fresh):
    """Ids and sources are stable, and the file is as nbformat writes it."""
    with open(NOTEBOOK, encoding="utf-8") as file:
        assert file.read() == nbformat.writes(saved) + "\n"
    assert [(c.id, c.source) for c in shrunk(saved).cells] == [
        (c.id, c.source) for c in fresh.cells
    ]
    assert fresh.metadata == saved.metadata


def test_the_first_cell_says_what_to_do_where_there_is_no_project(saved, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[copy.deepcopy(of(saved, "setup"))])
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="into REPOSITORY"):
        client.execute()


def test_the_first_cell_clones_the_project(saved, tmp_path):
    """As on Colab, where there is only the notebook; what it clones holds nothing but a name."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "nice.py").write_text("print('the clone')")
    (origin / "requirements.txt").write_text("")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(origin)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True)
    source = of(saved, "setup").source.split("from support")[0] + "import nice"
    source = source.replace('REPOSITORY = ""', f'REPOSITORY = "file://{origin}"')
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "the clone" in printed(notebook.cells[0])
