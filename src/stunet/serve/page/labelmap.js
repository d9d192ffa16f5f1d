// Arithmetic on label maps, voxel by voxel; it knows nothing of pictures.

const VALUES = 2 ** 16;

/** A table that tells for each label value whether it is kept. */
export function keeping(values) {
  const kept = new Uint8Array(VALUES);
  for (const value of values) kept[value] = 1;
  return kept;
}

/** The same labels without those that are not kept. */
export function filtered(labels, kept) {
  const shown = new labels.constructor(labels.length);
  for (let i = 0; i < labels.length; i++) if (kept[labels[i]]) shown[i] = labels[i];
  return shown;
}

/** Only the voxels of labels at a border: where one of the six neighbours is something else. */
export function outlined(labels, [nx, ny, nz]) {
  const border = new labels.constructor(labels.length);
  const row = nx;
  const slice = nx * ny;
  for (let z = 0, i = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++, i++) {
        const label = labels[i];
        if (label === 0) continue;
        const inside =
          x > 0 && x < nx - 1 && labels[i - 1] === label && labels[i + 1] === label &&
          y > 0 && y < ny - 1 && labels[i - row] === label && labels[i + row] === label &&
          (nz === 1 || (z > 0 && z < nz - 1 && labels[i - slice] === label && labels[i + slice] === label));
        if (!inside) border[i] = label;
      }
    }
  }
  return border;
}

/**
 * The place (mm) of the structure's voxel that is nearest to a point (mm): the centre of a curved structure can lie
 * outside of it. `affine` has four rows, voxel to mm. Null where the structure has no voxel.
 */
export function nearestVoxel(labels, [nx, ny, nz], affine, label, point) {
  let best = null;
  let least = Infinity;
  for (let z = 0, i = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++, i++) {
        if (labels[i] !== label) continue;
        const place = [0, 1, 2].map((axis) => {
          const [a, b, c, d] = affine[axis];
          return a * x + b * y + c * z + d;
        });
        const distance = Math.hypot(place[0] - point[0], place[1] - point[1], place[2] - point[2]);
        if (distance < least) [least, best] = [distance, place];
      }
    }
  }
  return best;
}
