# Lengths of time and sizes as gateway.toml has them: "1.5h", "32MiB", or a number.
#
# The same grammar as src/config/units.rs. What is not understood is null: the program's own check names it.
let
  read =
    units: plain: written:
    let
      parts = builtins.match " *0*([0-9]+)([.][0-9]+)? *([A-Za-z]*) *" written;
      part = builtins.elemAt parts;
      number = builtins.fromJSON (part 0 + (if part 1 == null then "" else part 1));
      unit = if part 2 == "" then plain else part 2;
    in
    if builtins.isInt written || builtins.isFloat written then
      builtins.ceil (written * units.${plain})
    else if !builtins.isString written || parts == null || !(units ? ${unit}) then
      null
    else
      builtins.ceil (number * units.${unit});
in
{
  # Whole seconds, rounded up.
  seconds = read {
    d = 86400;
    h = 3600;
    m = 60;
    s = 1;
    ms = 0.001;
  } "s";

  # Bytes, rounded up.
  bytes = read {
    GiB = 1073741824;
    GB = 1000000000;
    MiB = 1048576;
    MB = 1000000;
    KiB = 1024;
    kB = 1000;
    B = 1;
  } "B";
}
