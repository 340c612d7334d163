# A timer that starts a unit again a minute after it failed: OnFailure= of the unit names it.
#
# In the place of Restart=: while systemd waits for its own next try, the start of whoever is ordered after the unit
# waits too, up to the longest pause. This way a failed link is tried once, and its last good result is used.
unit: {
  description = "The next try of ${unit}";
  timerConfig = {
    OnActiveSec = "1min";
    Unit = unit;
    # So that the next failure can start it again.
    RemainAfterElapse = false;
  };
}
