// The index of a workgroup that was folded into two dimensions (foldGroups in lower.ts): one dimension ends at 65,535.
fn flatGroup(group: vec3u) -> u32 { return group.y * 32768u + group.x; }
