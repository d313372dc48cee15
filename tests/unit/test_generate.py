"""Derived files: written, and checked."""

from lightning_store import generate, status


def checkout(tmp_path, readme="# x\n<!-- status:begin -->\nold\n<!-- status:end -->\nrest\n"):
    (tmp_path / "lua" / "shared").mkdir(parents=True)
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    return tmp_path


def test_rendering_fills_files_between_markers(tmp_path):
    folder = checkout(tmp_path)
    assert generate.main([], folder) == 0
    assert (folder / "lua" / "shared" / "status.lua").read_text(encoding="utf-8") == status.render_lua()
    table = status.render_markdown()
    expected = f"# x\n<!-- status:begin -->\n{table}<!-- status:end -->\nrest\n"
    assert (folder / "README.md").read_text(encoding="utf-8") == expected


def test_check_names_stale_files_and_writes_nothing(tmp_path, capsys):
    folder = checkout(tmp_path)
    assert generate.main(["--check"], folder) == 1
    assert "README.md is stale" in capsys.readouterr().err
    assert not (folder / "lua" / "shared" / "status.lua").exists()


def test_check_passes_after_rendering(tmp_path):
    folder = checkout(tmp_path)
    generate.main([], folder)
    assert generate.main(["--check"], folder) == 0


def test_document_without_markers_stays(tmp_path):
    folder = checkout(tmp_path, readme="nothing here\n")
    generate.main([], folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == "nothing here\n"


def test_files_of_this_checkout_are_fresh():
    assert generate.stale(generate.CHECKOUT) == {}
