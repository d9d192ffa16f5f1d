"""Surfaces as STL, for printers, and as GLB (binary glTF 2.0), which keeps names and colours. Both in mm, RAS+."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stunet.errors import OutputError
from stunet.files import replacing
from stunet.imaging.meshes import Mesh

_STL_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])

_GLTF_MAGIC, _GLTF_VERSION = 0x46546C67, 2
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_INT = 5126, 5125
_VERTICES, _FACES = 34962, 34963


def write_stl(meshes: Sequence[Mesh], path: Path) -> None:
    """Write surfaces as one binary STL; it has no place for names.

    Raises:
        UserError: no surface, or the file cannot be written.
    """
    _require_any(meshes)
    faces = np.zeros(sum(len(mesh.faces) for mesh in meshes), dtype=_STL_FACE)
    faces["corners"] = np.concatenate([mesh.vertices[mesh.faces] for mesh in meshes])
    a, b, c = (faces["corners"][:, corner] for corner in range(3))
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    faces["normal"] = normals / np.where(lengths, lengths, 1)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"stunet, millimetres, RAS+".ljust(80))
        file.write(struct.pack("<I", len(faces)))
        file.write(faces.tobytes())


def write_glb(meshes: Sequence[Mesh], path: Path) -> None:
    """Write surfaces as binary glTF, each a node of its own with name and colour.

    Raises:
        UserError: no surface, or the file cannot be written.
    """
    _require_any(meshes)
    pieces = [piece for mesh in meshes for piece in (mesh.vertices.astype("<f4"), mesh.faces.astype("<u4"))]
    binary = b"".join(piece.tobytes() for piece in pieces)
    content = json.dumps(_gltf(meshes, pieces)).encode()
    content += b" " * (-len(content) % 4)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<III", _GLTF_MAGIC, _GLTF_VERSION, 28 + len(content) + len(binary)))
        file.write(struct.pack("<II", len(content), _JSON_CHUNK) + content)
        file.write(struct.pack("<II", len(binary), _BINARY_CHUNK) + binary)


def _require_any(meshes: Sequence[Mesh]) -> None:
    if not meshes:
        raise OutputError("None of the structures was found, so there is no surface to write.")


def _gltf(meshes: Sequence[Mesh], pieces: Sequence[np.ndarray]) -> dict[str, Any]:
    """The description: two pieces of the binary part for each mesh, its vertices and its faces."""
    views, start = [], 0
    for number, piece in enumerate(pieces):
        target = _FACES if number % 2 else _VERTICES
        views.append({"buffer": 0, "byteOffset": start, "byteLength": piece.nbytes, "target": target})
        start += piece.nbytes
    numbers = range(len(meshes))
    return {
        "asset": {"version": "2.0", "generator": "stunet", "extras": {"unit": "mm", "frame": "RAS+"}},
        "scene": 0,
        "scenes": [{"nodes": list(numbers)}],
        "nodes": [{"mesh": number, "name": mesh.name} for number, mesh in enumerate(meshes)],
        "meshes": [_mesh(number, mesh) for number, mesh in enumerate(meshes)],
        "materials": [_material(mesh) for mesh in meshes],
        "accessors": [accessor for number, mesh in enumerate(meshes) for accessor in _accessors(number, mesh)],
        "bufferViews": views,
        "buffers": [{"byteLength": start}],
    }


def _mesh(number: int, mesh: Mesh) -> dict[str, Any]:
    attributes = {"POSITION": 2 * number}
    return {
        "name": mesh.name,
        "primitives": [{"attributes": attributes, "indices": 2 * number + 1, "material": number}],
    }


def _material(mesh: Mesh) -> dict[str, Any]:
    """glTF's colours are linear, the ontology's are sRGB."""
    linear = [(value / 255) ** 2.2 for value in mesh.colour]
    look = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
    return {"name": mesh.name, "pbrMetallicRoughness": look}


def _accessors(number: int, mesh: Mesh) -> list[dict[str, Any]]:
    return [
        {
            "bufferView": 2 * number,
            "componentType": _FLOAT,
            "count": len(mesh.vertices),
            "type": "VEC3",
            "min": mesh.vertices.min(axis=0).tolist(),
            "max": mesh.vertices.max(axis=0).tolist(),
        },
        {
            "bufferView": 2 * number + 1,
            "componentType": _UNSIGNED_INT,
            "count": mesh.faces.size,
            "type": "SCALAR",
        },
    ]
