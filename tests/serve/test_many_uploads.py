"""Eight users at once: all finish, no progress falls, and scans wait on disk."""

from concurrent.futures import ThreadPoolExecutor

import psutil

from stunet.cli.demo import SCANS, scan_file


def test_eight_at_once(server):
    def one(number: int):
        with server.client() as client:
            job = client.submit(client.upload(scan_file(SCANS[number % 3])), "hippocampus")
            seen = list(client.follow(job))
            return seen, [found.voxels for found in client.statistics(job)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(8)))
    for seen, _ in results:
        assert seen[-1].state == "done"
        assert [job.progress for job in seen] == sorted(job.progress for job in seen)
        assert [job.ahead for job in seen] == sorted((job.ahead for job in seen), reverse=True)
    voxels = [found for _, found in results]
    assert all(voxels[number] == voxels[number % 3] for number in range(8))
    assert len({tuple(found) for found in voxels}) == 3
    assert any(seen[0].ahead > 0 for seen, _ in results)
    children = psutil.Process(server.process.pid).children()
    assert len(children) <= 3  # the worker, the helper, and multiprocessing's tracker
