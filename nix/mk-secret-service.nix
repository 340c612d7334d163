# Units that collect secrets into /run/NAME-secrets/env: the first link of a service's chain.
#
# Suits whoever brings secrets as files (sops-nix, agenix, opnix, a hand-written file), 1Password, and any command that
# prints an env file. The value is a part of the option `systemd`: NAME-secrets.service, and the timer that tries again.
#
# - On tmpfs, 0750 root:GROUP, the file 0440: the service reads its secrets and cannot change them.
# - What holds secrets is read by the service manager (LoadCredential=), so the unit needs no right over files.
# - The token of 1Password reaches this unit only.
# - A fetch that fails leaves the last good set. It is tried again by a timer, more and more slowly, and whenever the
#   service starts.
{ lib }:
{
  # The name of the service; "gateway" makes /run/gateway-secrets/env.
  name,
  # The program that collects: libexec/gateway/fetch-secrets of the package.
  fetch,
  # The group that may read the result.
  group ? name,
  # An env file with everything.
  environmentFile ? null,
  # NAME = path of a file that holds the value.
  files ? { },
  # argv of a command that prints an env file.
  command ? [ ],
  # { package, tokenFile, references = { NAME = "op://VAULT/ITEM/FIELD"; }; }
  onePassword ? null,
  # Units that bring the files.
  after ? [ ],
  before ? [ ],
  # Programs that `fetch` and `command` call.
  path ? [ ],
  # For all sources together.
  timeout ? "2min",
  # Commands that tell the service; they run as root and may ask it to reload.
  tell ? [ ],
}:
let
  quote = import ./quote.nix;
  references = lib.optionalAttrs (onePassword != null) onePassword.references;
  remote = references != { } || command != [ ];
  arguments =
    [ "/run/${name}-secrets" ]
    ++ lib.optionals (environmentFile != null) [
      "--env-file"
      "environment"
    ]
    ++ lib.concatMap (variable: [
      "--file"
      variable
      variable
    ]) (lib.attrNames files)
    ++ lib.concatMap (variable: [
      "--op"
      variable
      references.${variable}
    ]) (lib.attrNames references)
    ++ lib.optionals (command != [ ]) ([ "--" ] ++ command);
  network = lib.optional remote "network-online.target";
in
{
  timers."${name}-secrets-retry" = import ./retry.nix "${name}-secrets.service";

  services."${name}-secrets" = {
    description = "Secrets of ${name}";
    wants = network ++ after;
    after = network ++ after;
    inherit before;
    path = path ++ lib.optional (references != { }) onePassword.package;
    # 1Password's tool wants a place for its settings; this /tmp is the unit's own.
    environment = lib.optionalAttrs (references != { }) { XDG_CONFIG_HOME = "/tmp"; };
    # A switch fetches in one step; in between the old set lies where it was.
    stopIfChanged = false;
    unitConfig.OnFailure = "${name}-secrets-retry.timer";
    unitConfig.StartLimitIntervalSec = 0;
    serviceConfig = import ./hardening.nix // {
      Type = "oneshot";
      RemainAfterExit = true;
      Group = group;
      # The gateway's group must be there to write for.
      PrivateUsers = false;
      # Go's and Node's tools make code at run time.
      MemoryDenyWriteExecute = false;
      RuntimeDirectory = "${name}-secrets";
      RuntimeDirectoryMode = "0750";
      RuntimeDirectoryPreserve = true;
      LoadCredential =
        lib.optional (environmentFile != null) "environment:${quote.plain environmentFile}"
        ++ lib.mapAttrsToList (variable: file: "${variable}:${quote.plain file}") files
        ++ lib.optional (references != { }) "op-token:${quote.plain onePassword.tokenFile}";
      ExecStart = quote.execLine ([ fetch ] ++ arguments);
      # Without the sandbox: the socket to ask at belongs to the service's user.
      ExecStartPost = map (line: "+${line}") tell;
      # The one to ask is not in this unit's directory.
      UnsetEnvironment = "RUNTIME_DIRECTORY";
      TimeoutStartSec = timeout;
    };
  };
}
