// Planes and 3D together: what is shown, and how.

import { Planes } from "./planes.js";
import { Solid } from "./solid.js";

/** Of labels that are filled, when a result is opened. */
const OPACITY = 0.5;

const NOTHING = new Set();

export class Viewer {
  /** `view` is the element around both canvases; `onLocation` hears where the cross is. */
  constructor(view, onLocation) {
    this.view = view;
    this.onLocation = onLocation;
    this.asOutlines = false;
    this.opacity = OPACITY;
    this.compared = "result";
  }

  /** Show a scan and its labels, both NIfTI files of an overview. Resolves once the planes are drawn; 3D follows. */
  async open(scan, labels, structures, range) {
    const [planes, solid] = freshCanvases(this.view);
    this.structures = structures;
    this.shown = new Set(structures.map(({ value }) => value));
    this.planes = new Planes(planes, this.onLocation);
    this.solid = new Solid(solid);
    this.view.dataset.layout = "all";
    delete this.view.dataset.solid;
    await this.planes.open(scan, labels, structures, range, this.opacity);
    this.solidOpened = nextFrame().then(() => this.openSolid(labels));
  }

  async openSolid(labels) {
    await this.solid.open(labels, this.structures);
    this.solid.draw(this.shown);
    this.view.dataset.solid = "drawn";
    performance.mark("solid drawn");
  }

  /** Show all voxels in the planes. */
  async refine(scan, labels) {
    await this.planes.refine(scan, labels, this.structures, () => this.drawings()[0]);
    performance.mark("whole drawn");
  }

  /** Whether no other result took its place. */
  get isOpen() {
    return this.planes.canvas.isConnected;
  }

  setLayout(name) {
    this.view.dataset.layout = name;
    this.planes.setLayout(name);
  }

  /** Of labels that are filled, 0 to 1. */
  setOpacity(opacity) {
    this.opacity = opacity;
    this.draw();
  }

  setOutlines(on) {
    this.asOutlines = on;
    this.draw();
  }

  /** Show structures of these values and no others. */
  show(values) {
    this.shown = new Set(values);
    this.draw();
    this.solid.draw(this.shown);
  }

  /** Lay reference labels beside the result. */
  async openReference(buffer) {
    await this.planes.openReference(buffer, this.structures);
    this.compare("both");
  }

  /** Which labels are drawn: "result", "reference", or "both", the result filled and the reference as outlines. */
  compare(which) {
    this.compared = which;
    this.draw();
  }

  draw() {
    this.planes.draw(...this.drawings());
  }

  /** How to draw the result, and how the reference. */
  drawings() {
    const both = this.compared === "both";
    return [
      this.drawing(this.compared !== "reference", this.asOutlines && !both),
      this.drawing(this.compared !== "result", this.asOutlines || both),
    ];
  }

  drawing(isShown, asOutlines) {
    return { values: isShown ? this.shown : NOTHING, asOutlines, opacity: asOutlines ? 1 : this.opacity };
  }
}

/** NiiVue keeps what it once drew in a canvas, so each result gets new ones. */
function freshCanvases(view) {
  return [...view.querySelectorAll("canvas")].map((old) => {
    const fresh = old.cloneNode();
    old.replaceWith(fresh);
    return fresh;
  });
}

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
