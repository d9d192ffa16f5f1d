"""Strategies that damage opcodes of pickles, and files of `torch.save`."""

import io
import pickletools
import zipfile
from itertools import pairwise

from hypothesis import strategies as st

from tests.fuzz.damage import Draw, damaged_bytes

STRANGE_OPCODES = (
    b"cos\nsystem\n",
    b"cio\nopen\n",
    b"cbuiltins\neval\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"cnumpy._core.numeric\n_frombuffer\n",
    b"ccollections\nOrderedDict\n",
    b"cio\nopen\n(U\x06markerU\x01wtR",
    b"U\x06marker",
    b"R",
    b"b",
    b"Q",
    b"P7\n",
    b"s",
    b"u",
    b"a",
    b"e",
    b"t",
    b"(",
    b"0",
    b"2",
    b"\x85",
    b"\x86",
    b"\x81",
    b"\x93",
    b"\x94",
    b"N",
    b"}",
    b"]",
    b"K\x07",
    b"M\xff\xff",
    b"r\xff\xff\xff\x7f",
    b"h\x00",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\x7f",
    b"L" + b"9" * 5000 + b"L\n",
    b"S'x'\n",
    b"V\\ud800\n",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    b".",
)


@st.composite
def damaged_pickle(draw: Draw, content: bytes) -> bytes:
    """A pickle with opcodes that are missing, moved, repeated or strange."""
    places = [place or 0 for _, _, place in pickletools.genops(content)] + [len(content)]
    opcodes = [content[start:end] for start, end in pairwise(places)]
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(opcodes) - 1))
        act = draw(st.sampled_from(("strange", "strange", "remove", "repeat", "swap", "argument", "nest")))
        if act == "strange":
            opcodes[number:number] = draw(st.lists(st.sampled_from(STRANGE_OPCODES), min_size=1, max_size=4))
        elif act == "remove" and len(opcodes) > 1:
            del opcodes[number]
        elif act == "swap":
            other = draw(st.integers(0, len(opcodes) - 1))
            opcodes[number], opcodes[other] = opcodes[other], opcodes[number]
        elif act == "argument":
            opcodes[number] = opcodes[number][:1] + draw(st.binary(max_size=8))
        elif act == "nest":
            opcodes[number:number] = [b"]"] * draw(st.integers(1, 3000))
        else:
            opcodes[number:number] = [opcodes[number]] * draw(st.integers(1, 200))
    return b"".join(opcodes)


@st.composite
def damaged_checkpoint(draw: Draw, content: bytes) -> bytes:
    """A file of `torch.save`: its archive damaged as bytes, or its pickle as opcodes."""
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged_bytes(content, len(content)))
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return draw(damaged_pickle(content))
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            new.writestr(name, draw(damaged_pickle(member)) if name.endswith(".pkl") else member)
    return buffer.getvalue()
