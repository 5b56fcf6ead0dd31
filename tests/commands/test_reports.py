"""What commands print is printed, whether it can be kept or not."""

from circuits_jax.commands import launching


def test_a_table_that_cannot_be_kept_is_printed_and_a_line_says_so(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "inspect.json"
    launching.report([{"tensor": "wte", "L0": 0.5}], path, {"model": "theirs"})
    out, err = capsys.readouterr()
    assert "model: theirs" in out and "wte" in out
    (line,) = err.splitlines()
    assert line.startswith(f"note: the figures are not kept in {path} (")
    launching.report([{"tensor": "wte"}], tmp_path / "inspect.json")
    assert capsys.readouterr().err == "" and (tmp_path / "inspect.json").exists()
