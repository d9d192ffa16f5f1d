// Structures by group, as the server names it: organs, heart, vessels, bones, muscles.

const ORDER = ["organs", "heart", "vessels", "bones", "muscles"];

/** [[title, structures]], organs first, groups of other models last; structures keep their order. */
export function grouped(structures) {
  const groups = new Map();
  for (const one of structures) groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
  const rank = (group) => (ORDER.indexOf(group) + ORDER.length + 1) % (ORDER.length + 1);
  return [...groups].sort(([one], [other]) => rank(one) - rank(other)).map(([group, some]) => [titled(group), some]);
}

function titled(group) {
  return group ? group[0].toUpperCase() + group.slice(1) : "Structures";
}
