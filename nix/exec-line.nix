# A list of words as a command line of systemd.service(5): JSON's quoting is a part of systemd's, and its specifiers and
# variables are made plain.
words:
builtins.concatStringsSep " " (
  map (word: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON (toString word))) words
)
