"""Fitted codes: a known mixture is found again, densities are densities, files hold them."""

import os

import imageio.v3 as imageio
import numpy as np
import pytest
import ship
from conftest import DIM, configuration, in_process, run, save
from scipy import special, stats

import codes
import nice
import sample
from support import checkpoint, options, pictures, resuming
from support.errors import UserError


def mixture(rng, G=3, R=2, D=5, K=4, labels=None):
    """Some codes in a basis that is not orthogonal."""
    shares = np.arange(1, G + 1) / np.arange(1, G + 1).sum()
    means, directions = 5 * rng.standard_normal((G, K)), rng.standard_normal((G, R, K))
    basis, centre = np.eye(K, D) + 0.1 * rng.standard_normal((K, D)), rng.standard_normal(D)
    rest, contrast = rng.uniform(0.3, 0.8, (G, D)), [1.5]
    labels = np.arange(G) if labels is None else labels
    arrays = shares, means, directions, basis, centre, rest, contrast
    return codes.Codes(np.asarray(labels, "int32"), *(np.asarray(a, "float32") for a in arrays))


def centres(found):
    """Means of the groups as codes: (G, D)."""
    return found.centre + found.means @ found.basis


def covariances(found):
    V = found.directions @ found.basis
    return [v.T @ v + np.diag(rest**2) for v, rest in zip(V, found.rest)]


def toy(known, rng, count=20_000):
    """Codes of the mixture, rest included: `(z, group)`."""
    group = rng.choice(len(known.shares), count, p=known.shares)
    normals = [stats.multivariate_normal(m, c) for m, c in zip(centres(known), covariances(known))]
    z = np.empty((count, known.basis.shape[1]), "float32")
    for g, normal in enumerate(normals):
        z[group == g] = normal.rvs((group == g).sum(), random_state=rng)
    return z, group


def test_a_known_mixture_is_recovered_by_its_labels(rng):
    known = mixture(rng, labels=[-3, 7, 40_000])
    z, group = toy(known, rng)
    found = codes.fit(z, known.labels[group], numbers=75, directions=2)  # 15 for a full basis
    assert found.labels.tolist() == [-3, 7, 40_000] and found.is_labelled
    assert np.abs(found.shares - known.shares).max() < 0.02
    assert np.abs(centres(found) - centres(known)).max() < 0.1
    for one, other in zip(covariances(found), covariances(known)):
        # the widest directions hold some of the rest: what is left is diagonal only nearly
        assert np.abs(one - other).max() < 0.2 * np.abs(other).max()
    assert np.log(found.shares).sum() == pytest.approx(np.log(known.shares).sum(), abs=0.1)
    gap = (known.log_density(z) - found.log_density(z)).mean()
    assert -0.01 < gap < 0.25  # nats: nothing fits better than the truth


def test_groups_within_a_class_are_found(rng):
    known = mixture(rng, G=3, D=6)._replace(means=20 * np.eye(3, 4, dtype="float32"))
    z, _ = toy(known, rng)
    found = codes.fit(z, numbers=6 * 6 + 3 * 24, directions=2, basis=6)  # a basis and 3 groups
    assert found.labels.tolist() == [0, 0, 0] and not found.is_labelled
    gaps = np.abs(centres(found)[:, None] - centres(known)).max(axis=2)
    assert sorted(gaps.argmin(axis=1)) == [0, 1, 2] and gaps.min(axis=1).max() < 0.2


def test_k_means_measures_with_sigma(rng):
    """Two dimensions of two clusters each: sigma says which of them parts the groups."""
    z = (rng.choice([-9, 9], (400, 2)) + rng.standard_normal((400, 2))).astype("float32")
    for sigma, wide in (([1, 0.01], 0), ([0.01, 1], 1)):
        means = centres(codes.fit(z, None, np.array(sigma), numbers=2 * 2 + 2 * 6, directions=1))
        assert np.abs(means[:, wide]).min() > 8 and np.abs(means[:, 1 - wide]).max() < 3


def test_one_picture_and_equal_pictures_are_enough():
    for count in (1, 30):
        found = codes.fit(np.ones((count, 6), "float32"))
        assert codes._is_sound(found, 6) and len(found.labels) == 1
        assert np.allclose(found.sample([0], np.random.default_rng(0)), 1, atol=1e-5)


def test_a_wide_class_gets_more_groups_and_the_numbers_are_kept(rng):
    z = rng.standard_normal((4000, 20)).astype("float32")
    labels = np.arange(4000) % 2
    z[labels == 1, :10] *= 3
    found = codes.fit(z, labels, numbers=4000, directions=2)
    narrow, wide = ((found.labels == a).sum() for a in (0, 1))
    assert wide > 2 * narrow and sum(a.size for a in found) < 1.1 * 4000


@pytest.mark.parametrize("counts", [(1, 3, 50), (500, 500, 2)])
def test_small_classes_are_sound_and_no_group_is_tiny(rng, counts):
    labels = np.repeat([0, 1, 2], counts)
    z = rng.standard_normal((len(labels), 8)).astype("float32")
    z[labels == 0, 0] += np.arange(counts[0]) // (counts[0] - 1 or 1) * 100  # an outlier
    found = codes.fit(z, labels, numbers=10**6, directions=5)
    assert codes.of(found.arrays(), 8, "file")  # sound
    assert np.isfinite(found.log_density(z)).all()
    members = found.shares * len(z)
    for label, count in enumerate(counts):
        assert members[found.labels == label].min() > min(count, 10) - 0.1
    assert members.sum() == pytest.approx(len(z))


def test_the_density_is_that_of_scipy(rng):
    known = mixture(rng)
    z, _ = toy(known, rng, 200)
    each = [
        stats.multivariate_normal(m, c).logpdf(z) + np.log(s)
        for m, c, s in zip(centres(known), covariances(known), known.shares)
    ]
    assert np.abs(known.log_density(z) - special.logsumexp(each, axis=0)).max() < 1e-4


def test_the_density_integrates_to_one(rng):
    known = mixture(rng, D=2)
    axis = np.linspace(-25, 25, 1001)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.exp(known.log_density(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1, abs=1e-4)


def test_what_is_drawn_has_the_moments_asked_for(rng):
    known = mixture(rng, labels=[4, 4, 9])
    labels = known.sample_labels(40_000, rng)
    assert (labels == 9).mean() == pytest.approx(known.shares[2], abs=0.01)
    z = known.sample(np.full(40_000, 9), rng, 1.5)
    assert z.dtype == np.float32
    assert np.abs(z.mean(axis=0) - centres(known)[2]).max() < 0.05
    V = known.directions[2] @ known.basis
    assert np.abs(np.cov(z.T) - 1.5**2 * V.T @ V).max() < 0.2
    z = known.sample(np.full(40_000, 4), rng, 0)  # the means alone, as often as their groups
    gaps = np.abs(z[:, None] - centres(known)[:2]).max(axis=2)
    assert gaps.min(axis=1).max() < 1e-5
    assert (gaps.argmin(axis=1) == 1).mean() == pytest.approx(2 / 3, abs=0.01)


def test_what_is_drawn_is_the_density_less_its_rest(rng):
    """At T = 1, with the rest drawn on top, they are of the density that is reported."""
    known = mixture(rng, labels=[4, 4, 9])
    own, _ = toy(known, rng)
    z = known.sample(known.labels[rng.choice(3, 20_000, p=known.shares)], rng, 1.0)
    group = np.abs(z[:, None] - centres(known)).sum(axis=2).argmin(axis=1)
    z += known.rest[group] * rng.standard_normal(z.shape)
    assert known.log_density(z).mean() == pytest.approx(known.log_density(own).mean(), abs=0.1)


def test_contrast_matches_the_grey_of_pictures(rng):
    """Pictures whose contrast was lowered get it back; black and white ones as much as there is."""
    x = np.clip(rng.normal(0.5, 0.5, (200, 50)), 0, 1)
    soft = 0.5 + (rng.normal(0.5, 0.5, (5000, 50)) - 0.5) / 1.7
    found = codes.contrast(soft, x)
    assert found.dtype == np.float32 and found == pytest.approx(1.7, abs=0.1)
    y = codes.with_contrast(soft, found)
    assert (y * (1 - y)).mean() == pytest.approx((x * (1 - x)).mean(), rel=1e-3)
    assert codes.contrast(x, x) == pytest.approx(1, abs=1e-3)
    assert codes.contrast(soft, np.round(x)) == pytest.approx(4, abs=1e-3)


def test_pictures_left_out_are_left_out_of_every_class():
    labels = np.array([1] * 60 + [0] * 30 + [7])
    assert codes.evenly(labels, 91).tolist() == list(range(91))
    kept = codes.evenly(labels, 30)
    assert kept.tolist() == [*range(20), *range(60, 70), 90]


def test_a_code_is_of_the_label_asked_for(rng):
    known = mixture(rng, G=6, labels=[1, 2, 3, 1, 2, 3])
    labels = rng.choice([1, 2, 3], 500)
    z = known.sample(labels, rng, 0.1)
    nearest = ((z[:, None] - centres(known)) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(known.labels[nearest], labels)
    with pytest.raises(UserError, match="no label 0 to draw; there are 1, 2, 3"):
        known.sample([1, 0], rng)


def test_the_same_codes_on_every_backend():
    """Pinned: what NumPy alone makes of a seed is no backend's business."""
    rng = np.random.default_rng(0)
    known = mixture(rng)
    z = known.sample(known.sample_labels(3, rng), rng, 1.0)
    assert z[:, 0] == pytest.approx(DRAWN, abs=1e-5)


DRAWN = [-4.5300922, -4.1203308, -4.3142128]


def test_a_file_keeps_its_codes_in_float16_too(small, tmp_path, rng, monkeypatch):
    known, (encoder, _) = mixture(rng, D=DIM), small()
    path = save(tmp_path / "a.safetensors", encoder, codes=known)
    assert all(map(np.array_equal, nice.load(path).codes, known))
    half = str(tmp_path / "b.safetensors")
    monkeypatch.setattr("sys.argv", ["ship.py", path, half])
    ship.main(ship.parse())
    assert os.path.getsize(half) < 0.7 * os.path.getsize(path)
    again = nice.load(half)
    assert again.configuration == configuration()
    found = again.codes
    for one, other in zip([*again.encoder.get_weights(), *found], [*encoder.get_weights(), *known]):
        assert one.dtype == other.dtype and np.allclose(one, other, rtol=1e-3, atol=1e-6)
    assert np.array_equal(found.shares, known.shares)
    assert nice.load(save(path, encoder)).codes is None


def damages(known):
    """Ways to spoil codes: `(name, arrays)`."""
    arrays = known.arrays()
    for name in arrays:
        yield f"without {name}", {n: a for n, a in arrays.items() if n != name}
        yield f"{name} cut", {**arrays, name: arrays[name][:-1]}
        yield f"{name} flat", {**arrays, name: arrays[name].ravel()[: len(arrays[name]) - 1]}
        other = "float32" if name.endswith("labels") else "int32"
        yield f"{name} as {other}", {**arrays, name: arrays[name].astype(other)}
    yield "another name", {**arrays, "codes/more": known.rest}
    yield "rest 0", {**arrays, "codes/rest": 0 * known.rest}
    yield "shares below 0", {**arrays, "codes/shares": np.array([-1, 1, 1], "float32")}
    yield "shares too large", {**arrays, "codes/shares": 2 * known.shares}
    yield "contrast 0", {**arrays, "codes/contrast": 0 * known.contrast}
    yield "no group", {name: array[:0] for name, array in arrays.items()}
    yield "other pictures", {n: a[..., :-1] if a.ndim > 1 else a for n, a in arrays.items()}


@pytest.mark.parametrize("damage", dict(damages(mixture(np.random.default_rng(0), D=DIM))))
def test_damaged_codes_are_refused(small, tmp_path, damage):
    arrays = dict(damages(mixture(np.random.default_rng(0), D=DIM)))[damage]
    path = str(tmp_path / "a.safetensors")
    checkpoint.save(path, {**checkpoint.named(small()[0]), **arrays}, configuration())
    with pytest.raises(UserError, match="damaged codes"):
        nice.load(path)


# ---------------------------------------------------------------------- training


def test_a_training_keeps_codes_of_its_classes(tmp_path, rng):
    """Each label in a corner of its own of pixel space: its codes decode there."""
    labels = np.arange(120) % 3
    x = np.zeros((120, 4, 4), "uint8")
    x[np.arange(120), labels] = rng.integers(150, 255, (120, 4))  # label k: row k bright
    npz = str(tmp_path / "data.npz")
    np.savez(npz, x_train=x, y_train=labels + 5)
    flow = run(npz, tmp_path)
    assert flow.codes.classes.tolist() == [5, 6, 7]
    asked = flow.codes.sample_labels(60, rng)
    drawn = flow.pictures(flow.codes.sample(asked, rng, 1.0)).reshape(-1, 4, 4)
    assert np.array_equal(drawn.mean(axis=2).argmax(axis=1), asked - 5)


@pytest.mark.parametrize("labels", [None, np.array(["a", "b"] * 40), np.arange(80) / 2])
def test_labels_that_cannot_be_asked_for_count_as_none(flow, pixels, capsys, labels):
    fitted = codes.of_pictures(flow, pixels, labels)
    assert ("codes without classes" in capsys.readouterr().out) == (labels is not None)
    assert fitted.classes.tolist() == [0] and not fitted.is_labelled


def test_a_killed_run_ends_with_the_same_codes(npz, tmp_path, monkeypatch):
    """Killed before its codes were fitted, before its pictures, before its last word."""

    def die(*_):
        raise SystemExit

    run(npz, tmp_path / "whole", "--epochs", "1")
    whole = (tmp_path / "whole" / options.TRAINED).read_bytes()
    moments = {codes: "of_pictures", pictures: "save", resuming.Keeper: "finish"}
    for owner, name in moments.items():
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(owner, name, die)
            run(npz, tmp_path / name, "--epochs", "1")
        kept = (tmp_path / name / options.TRAINED).read_bytes()
        assert (kept == whole) == (name != "of_pictures")
        run(npz, tmp_path / name, "--epochs", "1", "--resume")
        assert (tmp_path / name / options.TRAINED).read_bytes() == whole


# --------------------------------------------------------------------- sample.py


@pytest.fixture
def digits(small, tmp_path, rng, monkeypatch):
    """A folder to stand in: with weights that have codes of labels 1, 4, and data of them."""
    encoder, _ = small()
    labelled = mixture(rng, 2, D=DIM, labels=[1, 4])
    save(tmp_path / "with.safetensors", encoder, codes=labelled)
    save(tmp_path / "bare.safetensors", encoder)
    x = rng.integers(0, 256, (60, 3, 4)).astype("uint8")
    np.savez(tmp_path / "data.npz", x_train=x, y_train=1 + 3 * (np.arange(60) % 2))
    np.savez(tmp_path / "unlabelled.npz", x_train=x)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(monkeypatch, command):
    """Run sample.py in this process."""
    monkeypatch.setattr("sys.argv", ["sample.py", *command.split()])
    sample.main(sample.parse())


def stored(path):
    with np.load(path) as file:
        return dict(file)


def test_digits_on_request(digits, monkeypatch, capsys):
    weights = "--weights with.safetensors --rows 6"
    draw(monkeypatch, f"{weights} --digits")
    rows = imageio.imread("samples.png")
    assert rows.shape == (2 * 3, 6 * 4)  # a row a label
    draw(monkeypatch, f"{weights} --digits --output d.npz")
    found = stored("d.npz")
    assert found["labels"].tolist() == 6 * [1] + 6 * [4] and found["samples"].shape == (12, 3, 4)
    tiled = found["samples"].reshape(2, 6, 3, 4).transpose(0, 2, 1, 3).reshape(6, 24)
    assert np.array_equal(tiled, rows)
    draw(monkeypatch, f"{weights} --digit 4 --output f.npz --count 2100")
    found = stored("f.npz")
    assert set(found["labels"].tolist()) == {4} and found["samples"].shape == (2100, 3, 4)
    assert not np.array_equal(found["samples"][:1000], found["samples"][1000:2000])
    assert f"sigma {options.TEMPERATURE:g}" in capsys.readouterr().out
    draw(monkeypatch, f"{weights} --codes fitted --output m.npz --count 300 --sigma 0")
    found = stored("m.npz")
    assert set(found["labels"].tolist()) == {1, 4}
    for label in (1, 4):  # at sigma 0 the means, decoded
        assert len(np.unique(found["samples"][found["labels"] == label], axis=0)) == 1
    assert len(np.unique(found["samples"], axis=0)) == 2


def test_the_prior_stays_the_default(digits, monkeypatch):
    draw(monkeypatch, "--weights with.safetensors --output a.npz --rows 3")
    draw(monkeypatch, "--weights bare.safetensors --output b.npz --rows 3 --sigma 0.75")
    draw(monkeypatch, "--weights with.safetensors --output c.npz --rows 3 --codes prior")
    a, b, c = (stored(f"{name}.npz") for name in "abc")
    assert set(a) == {"samples"}
    assert np.array_equal(a["samples"], b["samples"]) and np.array_equal(a["samples"], c["samples"])


def test_codes_are_fitted_on_the_spot(digits, monkeypatch, capsys):
    before = set(os.listdir("."))
    draw(monkeypatch, "--weights bare.safetensors --data data.npz --digit 4 --output d.npz")
    assert "fitting them to data.npz" in capsys.readouterr().out
    assert set(os.listdir(".")) == before | {"d.npz"}


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--digit 7", "no label 7 to draw; there are 1, 4"),
        ("--digit 99999999999", "no label 99999999999"),
        ("--digit seven", "whole number"),
        ("--digit 4 --digits", "not allowed with"),
        ("--digits --codes prior", "leave --codes prior out"),
        ("--weights bare.safetensors --data unlabelled.npz --digits", "no labels"),
        ("--weights bare.safetensors --data unlabelled.npz --digit 0", "no labels"),
        ("--weights bare.safetensors --data missing.npz --digits", "no data file"),
        ("--digit 4 --count 9", "--count needs"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(digits, flags, reason):
    before = set(os.listdir("."))
    code, stderr = in_process("sample.py", "--weights", "with.safetensors", *flags.split())
    assert code == 2 and stderr.count("\n") == 1 and reason in stderr, stderr
    assert set(os.listdir(".")) == before
