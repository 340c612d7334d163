# Texts as systemd's files hold them.
let
  # Specifiers made plain.
  plain = text: builtins.replaceStrings [ "%" ] [ "%%" ] (toString text);
  # One word of several: JSON's quoting is a part of systemd's.
  word = text: builtins.toJSON (plain text);
in
{
  inherit plain word;
  # A list of words as a command line of systemd.service(5), where variables are made plain too.
  execLine = words: builtins.concatStringsSep " " (map (w: builtins.replaceStrings [ "$" ] [ "$$" ] (word w)) words);
}
