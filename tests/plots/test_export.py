import pytest
from matplotlib.figure import Figure

from gentheory.errors import InputError
from gentheory.plots import export
from gentheory.plots.export import render, save, write


def figure():
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 2], [3, 4])
    return drawn


@pytest.mark.parametrize(
    ("name", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-")]
)
def test_equal_figures_give_equal_bytes(tmp_path, name, start):
    path = save(figure(), tmp_path / "deeper" / f"figure.{name}")
    assert path.read_bytes() == render(figure(), name)
    assert path.read_bytes().startswith(start)


def test_a_vector_file_tells_neither_time_nor_program():
    svg = render(figure(), "svg").decode()
    assert "Matplotlib" not in svg
    assert "<dc:date>" not in svg
    assert b"CreationDate" not in render(figure(), "pdf")


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"found the suffix '.gif', expected svg, png or pdf"):
        save(figure(), tmp_path / "figure.gif")


def test_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError("no space left on device")

    path = write(tmp_path / "file", b"old")
    monkeypatch.setattr(export.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("count", "pictures"), [(900, 0), (5000, 1)])
def test_thousands_of_marks_are_one_picture_in_a_vector_file(count, pictures):
    figure = Figure()
    axes = figure.add_subplot()
    marks = axes.scatter(range(count), range(count))
    axes.set_title("in letters")
    svg = render(figure, "svg")
    assert svg.count(b"<image") == pictures
    assert b"in letters" in svg
    assert len(svg) < 200_000
    assert not marks.get_rasterized()
