from stunet.pictures.style import looks_of


def test_looks_differ_without_colour():
    looks = looks_of(map(str, range(44)))
    assert len({(look.marker, look.line) for look in looks.values()}) == 44


def test_letters_are_dark_enough_to_read():
    """Contrast with white of at least 4.5, by the formula of the Web Content Accessibility Guidelines."""
    for look in looks_of("abcdefg").values():
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in look.letters]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5, look
