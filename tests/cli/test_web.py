from gamt.cli.web import licence_of


def test_the_licence_is_that_of_the_weights() -> None:
    assert licence_of("statistical") == "Apache-2.0"
    assert licence_of("sam_vit_b") == "Apache-2.0"
    assert licence_of("somebody's") == "!!MISSING!!"
