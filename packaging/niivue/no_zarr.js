// Stands in for zarrita: the page reads NIfTI only, and the codecs of Zarr would treble the size of the viewer.
const refuse = () => {
  throw new Error("Zarr is not part of this viewer");
};
export { refuse as FetchStore, refuse as get, refuse as open, refuse as root, refuse as slice };
