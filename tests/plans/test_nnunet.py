"""nnU-Net's plans: v1's pickle, read without running code, and v2's JSON, including what is refused."""

import os
import pickle
import struct

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.networks.stunet import PUBLISHED_STRIDES, six_strides
from stunet.plans import nnunet
from stunet.plans.labels import Region
from stunet.plans.nnunet import DatasetDescription, dataset_from, plans_from, read_v1_plans, strides_from
from tests.weights.samples import PUBLISHED_POOLING, V2_DATASET, v1_plans, v2_plans

MARKER = "STUNET_PICKLE_EXECUTED.marker"


class Wants:
    """Calls `function` when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def plain(value):
    """`value` with lists for arrays, tuples and sets, and Python's numbers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple | set) else value


def pickled(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


# v1


@pytest.mark.parametrize("protocol", range(6))
def test_v1_plans_are_read_as_pickle_reads_them(tmp_path, protocol):
    path = pickled(tmp_path / "plans.pkl", v1_plans(), protocol)
    plans = read_v1_plans(path)
    expected = pickle.loads(path.read_bytes())  # our own file
    assert plans == plain(expected)
    read = plans_from(plans)
    assert (read.strides, read.channels, read.kind) == (PUBLISHED_STRIDES, ("CT",), None)


def test_plans_written_under_numpy_1_are_read(tmp_path):
    content = pickle.dumps(v1_plans(), 2)
    assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
    path = tmp_path / "plans.pkl"
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_v1_plans(path) == plain(v1_plans())


def test_the_pickle_beside_a_checkpoint_holds_plans_too(tmp_path):
    path = pickled(tmp_path / "base_ep4k.model.pkl", {"init": ("a", 0), "name": "STUNetTrainer", "plans": v1_plans()})
    assert read_v1_plans(path)["num_classes"] == 2


def test_arrays_and_scalars_become_lists_and_numbers(tmp_path):
    extra = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.float64(0.1), "c": np.bool_(True), "d": {1}}
    read = read_v1_plans(pickled(tmp_path / "plans.pkl", {**v1_plans(), **extra}))
    assert (read["a"], read["b"], read["c"], read["d"]) == ([[0, 3], [1, 4], [2, 5]], 0.1, True, [1])


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (Wants(open, MARKER, "w"), r"\w+\.open"),
        (Wants(os.system, f"touch {MARKER}"), r"posix\.system|nt\.system"),
        (Wants(eval, f"open({MARKER!r}, 'w')"), r"builtins\.eval"),
        (Wants(getattr, {}, "clear"), r"builtins\.getattr"),
        (Wants(np.load, MARKER), r"numpy\S*load"),
        (Wants(np.fromfile, MARKER), r"numpy\S*fromfile"),
    ],
    ids=["open", "system", "eval", "getattr", "np.load", "np.fromfile"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_run(tmp_path, monkeypatch, wanted, name, protocol):
    monkeypatch.chdir(tmp_path)
    path = pickled(tmp_path / "plans.pkl", {**v1_plans(), "extra": wanted}, protocol)
    with pytest.raises(UserError, match=rf"plans.pkl would run ({name}) .*nothing was run"):
        read_v1_plans(path)
    assert not (tmp_path / MARKER).exists()


def test_the_hostile_sample_is_refused(shared_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"would run io\.open"):
        read_v1_plans(shared_data / "bad_inputs" / "exec_plain.model.pkl")
    assert not list(tmp_path.iterdir())


def test_an_array_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path):
    class Bomb:
        def __reduce__(self):
            return np.zeros(1).__reduce__()[0], (np.ndarray, (10**15,), b"d")

    read = read_v1_plans(pickled(tmp_path / "plans.pkl", {**v1_plans(), "bomb": Bomb()}))
    assert read["bomb"] == []


def test_a_memo_index_that_asks_for_gigabytes_is_refused(tmp_path):
    path = tmp_path / "plans.pkl"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".")
    with pytest.raises(UserError, match="damaged"):
        read_v1_plans(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text, not a pickle",
        b"\x80\x02}q\x00(X",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
        b"\x80\x02.",
        b"(" * 99,
    ],
)
def test_broken_pickles_are_refused(tmp_path, content):
    path = tmp_path / "plans.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"plans\.pkl"):
        read_v1_plans(path)


def test_other_pickles_hold_no_plans(tmp_path):
    for content in ([1], {}, {"plans": {}}, {"plans": 3}, "plans_per_stage"):
        with pytest.raises(UserError, match="contains no nnU-Net v1 plans"):
            read_v1_plans(pickled(tmp_path / "plans.pkl", content))


def test_enormous_files_are_not_read(tmp_path, monkeypatch):
    path = pickled(tmp_path / "plans.pkl", v1_plans())
    monkeypatch.setattr(nnunet, "MAX_PICKLE_BYTES", 10)
    with pytest.raises(UserError, match="more than 10 bytes"):
        read_v1_plans(path)


def test_the_highest_resolution_is_taken():
    plans = v1_plans()
    finer = {"pool_op_kernel_sizes": [[1, 2, 2]] * 6, "current_spacing": [1, 0.5, 0.5]}
    plans["plans_per_stage"][1] = {**plans["plans_per_stage"][0], **finer}
    read = plans_from(plans)
    assert six_strides(read.strides) == ((1, 1, 1), *[(1, 2, 2)] * 5)
    assert read.preprocessing.spacing == (1.0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ({0: {"pool_op_kernel_sizes": [[2, 2]] * 5}}, "2D network"),
        ({0: {}}, "damaged"),
        ({}, "damaged"),
        ({0: {"pool_op_kernel_sizes": []}}, "damaged"),
        ({0: {"pool_op_kernel_sizes": 3}}, "damaged"),
    ],
)
def test_v1_plans_without_3d_strides_are_refused(stages, reason):
    with pytest.raises(UserError, match=reason):
        plans_from({**v1_plans(), "plans_per_stage": stages})


# v2


def test_v2_plans_name_strides_labels_and_channels():
    assert plans_from(v2_plans(), "3d_fullres").strides == PUBLISHED_STRIDES
    assert dataset_from(V2_DATASET) == DatasetDescription(("MRI",), ("background", "Anterior", "Posterior"))


def test_v2_plans_name_the_variants_of_our_network():
    kwargs = {"strides": [[1, 1, 1], *PUBLISHED_POOLING], "upsampling": "transposed", "downsampling": "convolution"}
    plan = plans_from(
        v2_plans(architecture={"network_class_name": "stunet.networks.stunet.STUNet", "arch_kwargs": kwargs})
    )
    assert (plan.arguments["upsampling"], plan.arguments["downsampling"]) == ("transposed", "convolution")


def test_older_v2_plans_keep_strides_elsewhere():
    plans = v2_plans(UNet_class_name="PlainConvUNet", pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    del plans["configurations"]["3d_fullres"]["architecture"]
    read = plans_from(plans)
    assert six_strides(read.strides) == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))
    assert read.network_class == "PlainConvUNet"


def test_the_ignore_label_is_no_class():
    labels = {"background": 0, "tumour": 1, "ignore": 2}
    assert dataset_from({"labels": labels}).labels == ("background", "tumour")


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ("2d", "2D network"),
        ("3d_cascade_fullres", "cascade"),
        ("3d_lowres", "no configuration '3d_lowres'; they have 3d_fullres, 2d"),
    ],
)
def test_what_an_stunet_cannot_be_is_refused(configuration, reason):
    with pytest.raises(UserError, match=reason):
        plans_from(v2_plans(), configuration)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        ({"labels": {"background": 0, "b": 2}}, "without a gap"),
        ({"labels": {"background": 0, "b": 0}}, "without a gap"),
        ({"labels": {"background": 0, "b": "x"}}, "not integers"),
        ({"labels": {"0": "background", "1": "b"}}, "have the form of nnU-Net v1"),
        ({"labels": [1]}, "no table of labels"),
        ({"channel_names": {"zero": "CT"}}, "numbers first"),
        ({"channel_names": ["CT", "PET"]}, r'is a list.*\{"0": "CT", "1": "PET"\}'),
    ],
)
def test_a_dataset_that_says_nothing_clear_is_refused(dataset, reason):
    with pytest.raises(UserError, match=reason):
        dataset_from(dataset)


def test_regions_are_told_apart_from_classes():
    labels = {"background": 0, "whole": [1, 2], "posterior": 2, "ignore": 3}
    description = dataset_from({"labels": labels, "regions_class_order": [1, 2]})
    assert description.labels == ("whole", "posterior")
    assert description.regions == (Region(1, (1, 2)), Region(2, (2,)))
    assert dataset_from({"labels": {"background": 0, "a": [1]}}).regions == ()  # a list of one is a plain label


@pytest.mark.parametrize("plans", [{}, {"configurations": 3}, {"configurations": {"3d_fullres": 3}}])
def test_what_is_no_plan_is_refused(plans):
    with pytest.raises(UserError):
        plans_from(plans)


def test_plans_that_inherit_in_a_circle_end():
    plans = v2_plans(inherits_from="3d_fullres")
    with pytest.raises(UserError, match="inherits from itself"):
        plans_from(plans)


# Strides


def test_strides_may_leave_out_the_first_stage():
    assert strides_from(PUBLISHED_POOLING) == strides_from([(1, 1, 1), *PUBLISHED_POOLING]) == PUBLISHED_STRIDES
