# A timer that starts a unit again after it failed, more and more slowly: OnFailure= of the unit names it.
#
# In the place of Restart=: while systemd waits for its own next try, the start of whoever is ordered after the unit
# waits too, up to the longest pause. This way a failed link is tried once, and its last good result is used. After the
# last try the next failure begins anew. Once a try has succeeded, those that are left find the unit started.
unit: {
  description = "The next try of ${unit}";
  timerConfig = {
    OnActiveSec = [
      "1min"
      "3min"
      "7min"
      "15min"
      "31min"
      "61min"
    ];
    Unit = unit;
    # So that the next failure can start it again.
    RemainAfterElapse = false;
  };
}
