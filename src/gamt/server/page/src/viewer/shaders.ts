/** What draws a slice: one triangle over its tile, each pixel of which looks up its own voxels. */

import type { Plane } from "../types.ts";

export const VERTEX = `#version 300 es
void main() {
  // A triangle that covers the viewport.
  gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}
`;

/** The voxel at a point (column, row) of a plane's slice `index`. */
const VOXEL: Record<Plane, string> = {
  axial: "ivec3(point, index)",
  coronal: "ivec3(point.x, index, point.y)",
  sagittal: "ivec3(index, point)",
};

/**
 * Returns the shader of a plane's slices. Each plane has its own: choosing the plane for every
 * pixel takes more than half of the time where there is no graphics processor.
 *
 * @param sampler GLSL's type of the scan's texture: usampler3D, isampler3D or sampler3D.
 */
export const fragment = (sampler: string, plane: Plane): string => `#version 300 es
precision highp float;
precision highp int;

uniform highp ${sampler} scan;
uniform highp usampler3D labels;
uniform highp usampler3D disagreement;
uniform sampler2D colors;           // by label, as the labels are filled; a = 0 where hidden

uniform int index;
uniform ivec2 last;                 // the slice's last point
uniform vec2 origin;                // the plane's point at the canvas's top left corner,
uniform vec2 stride;                // and from one pixel to the next
uniform float canvasHeight;
uniform vec2 window;                // stored values shown black and white
uniform ivec3 low;                  // bounds of the disagreement, half-open
uniform ivec3 high;
uniform float outline;              // pixels
uniform vec2 crosshair;             // pixels from the canvas's top left corner
uniform vec2 crosshairSize;         // half its lines' width, and of the gap in their middle

out vec4 color;

const vec3 CROSSHAIR = vec3(0.34, 0.71, 0.91);
const vec3 SOME = vec3(0.80, 0.47, 0.65);
const vec3 MUCH = vec3(1.00, 0.95, 0.45);

ivec3 voxel(ivec2 point) {
  return ${VOXEL[plane]};
}

float value(ivec2 point) {
  return float(texelFetch(scan, voxel(point), 0).r);
}

float interpolate(vec2 point) {
  vec2 place = clamp(point, vec2(0.0), vec2(last));
  ivec2 a = ivec2(place);
  ivec2 b = min(a + 1, last);
  vec2 t = place - vec2(a);
  return mix(
    mix(value(a), value(ivec2(b.x, a.y)), t.x),
    mix(value(ivec2(a.x, b.y)), value(b), t.x),
    t.y);
}

bool holds(ivec2 point) {
  return all(greaterThanEqual(point, ivec2(0))) && all(lessThanEqual(point, last));
}

uint labelAt(vec2 point) {
  ivec2 nearest = clamp(ivec2(floor(point + 0.5)), ivec2(0), last);
  return texelFetch(labels, voxel(nearest), 0).r;
}

bool isShown(uint label) {
  return texelFetch(colors, ivec2(label, 0), 0).a > 0.0;
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x, canvasHeight - gl_FragCoord.y);
  vec2 point = origin + stride * pixel;
  ivec2 nearest = ivec2(floor(point + 0.5));
  color = vec4(0.0, 0.0, 0.0, 1.0);
  if (!holds(nearest)) return;

  float grey = (interpolate(point) - window.x) / max(window.y - window.x, 1e-30);
  color.rgb = vec3(clamp(grey, 0.0, 1.0));

  bool isDisagreementShown = high.x > low.x;
  uint label = labelAt(point);
  bool isEdge = false;
  if (label != 0u && isShown(label)) {
    vec2 edge = outline * stride;
    isEdge = label != labelAt(point + vec2(edge.x, 0.0))
      || label != labelAt(point - vec2(edge.x, 0.0))
      || label != labelAt(point + vec2(0.0, edge.y))
      || label != labelAt(point - vec2(0.0, edge.y));
    vec4 fill = texelFetch(colors, ivec2(label, 0), 0);
    color.rgb = mix(color.rgb, fill.rgb, isEdge ? 1.0 : isDisagreementShown ? 0.0 : fill.a);
  }
  if (isDisagreementShown && !isEdge) {
    ivec3 place = voxel(nearest);
    if (all(greaterThanEqual(place, low)) && all(lessThan(place, high))) {
      float much = float(texelFetch(disagreement, place - low, 0).r) / 255.0;
      color.rgb = mix(color.rgb, mix(SOME, MUCH, much), much > 0.0 ? 0.3 + 0.6 * much : 0.0);
    }
  }

  vec2 distance = abs(pixel - crosshair);
  float beside = min(distance.x, distance.y);
  float along = max(distance.x, distance.y);
  if (beside < crosshairSize.x && along > crosshairSize.y) {
    color.rgb = mix(color.rgb, CROSSHAIR, 0.75);
  }
}
`;
