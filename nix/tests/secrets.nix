# The chain of secrets with a false 1Password: a store that is down at first, a rotation, an outage later.
{
  gateway,
  module,
  pkgs,
}:
let
  op = pkgs.writeShellScriptBin "op" ''
    [ "$OP_SERVICE_ACCOUNT_TOKEN" = ops-token ] || exit 1
    cat "/var/vault/$(printf '%s' "$2" | tr / _)"
  '';
in
{
  name = "gateway-secrets";
  nodes.machine = {
    imports = [ module ];
    systemd.services.upstream = import ./upstream.nix { inherit pkgs; } 8000;
    services.gateway = {
      enable = true;
      package = gateway;
      secrets.onePassword = {
        package = op;
        tokenFile = "/var/op-token";
        references.GATEWAY_MASTER_KEY = "op://Home/Gateway/key";
        references.UPSTREAM_KEY = "op://Home/Upstream/key";
      };
      models = [
        {
          name = "small";
          model = "openai_like/small";
          api_base = "http://127.0.0.1:8000/v1";
          api_key = "env:UPSTREAM_KEY";
        }
      ];
    };
  };
  testScript = ''
    ask = (
        "curl -fsS http://127.0.0.1:4000/v1/chat/completions -H 'authorization: Bearer sk-house' "
        "-d '{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'"
    )
    machine.wait_for_unit("gateway.socket")
    machine.wait_for_open_port(8000)
    with subtest("a store that is down leaves the socket as it is"):
        machine.fail(ask)
        machine.succeed("systemctl is-active gateway.socket")
    with subtest("it recovers by itself"):
        machine.succeed("mkdir /var/vault; printf ops-token > /var/op-token")
        machine.succeed("printf sk-house > /var/vault/op:__Home_Gateway_key")
        machine.succeed("printf up-1 > /var/vault/op:__Home_Upstream_key")
        machine.wait_until_succeeds(ask, timeout=120)
        assert "Bearer up-1" in machine.succeed(ask)
    with subtest("a rotated secret is in force without a restart"):
        pid = machine.succeed("systemctl show -P MainPID gateway.service")
        machine.succeed("printf up-2 > /var/vault/op:__Home_Upstream_key")
        machine.succeed("systemctl restart gateway-secrets.service")
        assert "Bearer up-2" in machine.succeed(ask)
        assert pid == machine.succeed("systemctl show -P MainPID gateway.service")
    with subtest("an outage leaves the last good set, over a restart too"):
        machine.succeed("mv /var/vault /var/gone")
        machine.fail("systemctl restart gateway-secrets.service")
        machine.succeed("systemctl restart gateway.service")
        assert "Bearer up-2" in machine.succeed(ask)
    with subtest("nobody else can read them"):
        assert machine.succeed("stat -c '%a %U %G' /run/gateway-secrets/env") == "440 root gateway\n"
        machine.fail("sudo -u nobody cat /run/gateway-secrets/env")
        machine.fail("systemctl show gateway.service gateway-secrets.service | grep -e up-2 -e ops-token")
        machine.fail("journalctl -b | grep -e 'up-[12]' -e ops-token")
  '';
}
