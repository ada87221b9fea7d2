/** A prompt that is being drawn. */

import type { NewPrompt, Plane } from "../types.ts";
import type { DrawingTool, Place } from "./tool.ts";

export class Draft {
  readonly tool: DrawingTool;
  readonly positive: boolean;
  /** That it was begun on. */
  readonly plane: Plane;
  /** Marked so far: at least one. */
  readonly places: readonly Place[];
  /** Where the pointer or the crosshair is: the next place, if it is marked there. */
  readonly tip: Place;

  private constructor(
    tool: DrawingTool,
    positive: boolean,
    plane: Plane,
    places: readonly Place[],
    tip: Place,
  ) {
    this.tool = tool;
    this.positive = positive;
    this.plane = plane;
    this.places = places;
    this.tip = tip;
  }

  static begin(tool: DrawingTool, positive: boolean, place: Place): Draft {
    return new Draft(tool, positive, place.plane, [place], place);
  }

  /** Returns it with another tip. */
  moveTo(tip: Place): Draft {
    return new Draft(this.tool, this.positive, this.plane, this.places, tip);
  }

  /** Returns it with another place marked. */
  mark(place: Place): Draft {
    return new Draft(this.tool, this.positive, this.plane, [...this.places, place], place);
  }

  /** Returns it without the last place; null if there was only one. */
  takeBack(): Draft | null {
    if (this.places.length === 1) return null;
    return new Draft(this.tool, this.positive, this.plane, this.places.slice(0, -1), this.tip);
  }

  /** Whether the last place ends it, if it was marked by a click or by Enter. */
  get isComplete(): boolean {
    return this.tool.isComplete(this.places);
  }

  /** The prompt of the places that are marked; null where they are too few. */
  get prompt(): NewPrompt | null {
    return this.tool.promptOf(this.places, this.positive);
  }

  /** The prompt that it would be if it ended at the tip. */
  get preview(): NewPrompt | null {
    return this.tool.promptOf([...this.places, this.tip], this.positive);
  }
}
