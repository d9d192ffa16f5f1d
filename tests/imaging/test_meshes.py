"""Surfaces of boxes and balls, against their volume and place."""

import json
import struct

import numpy as np
import pytest

pytest.importorskip("skimage", reason="the extra serve is not installed")

from stunet.errors import UserError
from stunet.imaging.affine import voxel_to_world
from stunet.imaging.formats.mesh_files import write_glb, write_stl
from stunet.imaging.meshes import signed_volume, surface_mesh

AFFINES = {
    "RAS": np.array([[2.0, 0, 0, -10], [0, 3, 0, 5], [0, 0, 4, 100], [0, 0, 0, 1]]),
    "LPS": np.array([[-2.0, 0, 0, 90], [0, -3, 0, 80], [0, 0, 4, -70], [0, 0, 0, 1]]),
    "turned": np.array([[0, 0, 2.0, 1], [3, 0, 0, 2], [0, 4, 0, 3], [0, 0, 0, 1]]),
    "LAS": np.array([[-2.0, 0, 0, 90], [0, 3, 0, 80], [0, 0, 4, -70], [0, 0, 0, 1]]),
}


def ball():
    z, y, x = np.indices((20, 24, 28))
    return (z - 9) ** 2 + (y - 12) ** 2 + (x - 14) ** 2 <= 64


@pytest.mark.parametrize("name", AFFINES)
def test_a_ball_has_its_volume_and_place(name):
    affine = AFFINES[name]
    mesh = surface_mesh(ball(), affine, "liver", (255, 0, 0))
    volume = ball().sum() * abs(np.linalg.det(affine[:3, :3]))
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(volume, rel=0.03)
    middle = voxel_to_world(affine, (14, 12, 9))
    assert (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2 == pytest.approx(middle, abs=1e-3)


def test_a_structure_at_the_border_is_closed():
    mesh = surface_mesh(np.ones((2, 3, 4), bool), np.eye(4), "liver", (255, 0, 0))
    edges = np.sort(np.concatenate([mesh.faces[:, pair] for pair in ((0, 1), (1, 2), (2, 0))]), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert set(counts) == {2}
    assert mesh.vertices.min(axis=0) == pytest.approx([-0.5] * 3)
    assert mesh.vertices.max(axis=0) == pytest.approx([3.5, 2.5, 1.5])


def test_one_voxel_has_a_surface():
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    assert len(surface_mesh(mask, np.eye(4), "a", (1, 2, 3)).faces) == 8


@pytest.fixture
def meshes():
    return [
        surface_mesh(ball(), AFFINES["LPS"], name, colour) for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 1)))
    ]


def test_stl(meshes, tmp_path):
    write_stl(meshes, tmp_path / "a.stl")
    content = (tmp_path / "a.stl").read_bytes()
    (count,) = struct.unpack_from("<I", content, 80)
    assert len(content) == 84 + 50 * count and count == sum(len(mesh.faces) for mesh in meshes)
    assert not content.startswith(b"solid")
    normal, first = np.frombuffer(content, "<f4", 6, 84).reshape(2, 3)
    assert first == pytest.approx(meshes[0].vertices[meshes[0].faces[0, 0]])
    middle = voxel_to_world(AFFINES["LPS"], (14, 12, 9))
    assert normal @ (first - middle) > 0 and np.linalg.norm(normal) == pytest.approx(1, abs=1e-5)


def test_glb(meshes, tmp_path):
    write_glb(meshes, tmp_path / "a.glb")
    content = (tmp_path / "a.glb").read_bytes()
    magic, version, total, length, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, total, kind) == (b"glTF", 2, len(content), b"JSON")
    description = json.loads(content[20 : 20 + length])
    size, kind = struct.unpack_from("<I4s", content, 20 + length)
    binary = content[28 + length :]
    assert kind == b"BIN\0" and len(binary) == size == description["buffers"][0]["byteLength"]
    assert [node["name"] for node in description["nodes"]] == ["a", "b"]
    for mesh, described in zip(meshes, description["meshes"], strict=True):
        (primitive,) = described["primitives"]
        for accessor, kind, values in (
            (primitive["attributes"]["POSITION"], "<f4", mesh.vertices),
            (primitive["indices"], "<u4", mesh.faces),
        ):
            view = description["bufferViews"][description["accessors"][accessor]["bufferView"]]
            piece = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
            assert np.array_equal(np.frombuffer(piece, kind).reshape(-1, 3), values)
    assert description["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] == [1, 0, 0, 1]


def test_no_surface_at_all(tmp_path):
    with pytest.raises(UserError, match="None of the structures was found"):
        write_stl([], tmp_path / "a.stl")
