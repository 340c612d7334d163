# The least configuration: nothing runs until somebody asks, and then it answers.
{
  gateway,
  module,
  pkgs,
}:
{
  name = "gateway-minimal";
  nodes.machine = {
    imports = [ module ];
    systemd.services.upstream = import ./upstream.nix { inherit pkgs; } 8000;
    services.gateway = {
      enable = true;
      package = gateway;
      models = [
        {
          name = "small";
          model = "openai_like/small";
          api_base = "http://127.0.0.1:8000/v1";
        }
      ];
    };
  };
  testScript = ''
    machine.wait_for_unit("gateway.socket")
    machine.wait_for_open_port(8000)
    machine.fail("systemctl is-active gateway.service")
    machine.succeed("curl -fsS http://127.0.0.1:4000/health/liveliness")
    machine.succeed("systemctl is-active gateway.service")
    ask = "curl -fsS http://127.0.0.1:4000/v1/chat/completions -d '{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'"
    assert "chat.completion" in machine.succeed(ask)
    machine.succeed("curl -fsS --unix-socket /run/gateway.sock http://gateway/health/liveliness")
    machine.succeed("systemctl reload gateway.service")
    machine.succeed("systemd-analyze security --threshold=12 gateway.service")
  '';
}
