# Home Assistant beside the gateway, and a program with a unit of its own.
{
  gateway,
  module,
  pkgs,
}:
{
  name = "gateway-home-assistant";
  nodes.machine = {
    imports = [ module ];
    systemd.services.home-assistant-stand-in = import ./upstream.nix { inherit pkgs; } 8123;
    services.gateway = {
      enable = true;
      package = gateway;
      homeAssistant.enable = true;
      homeAssistant.tokenFile = "/var/ha-token";
      mcpServers.echo.command = [ "${pkgs.coreutils}/bin/cat" ];
    };
  };
  testScript = ''
    machine.succeed("printf ha-token > /var/ha-token")
    machine.wait_for_unit("gateway.socket")
    machine.wait_for_open_port(8123)
    machine.succeed("curl -fsS http://127.0.0.1:4000/health/liveliness")
    tools = machine.succeed("curl -fsS http://127.0.0.1:4000/mcp-rest/tools/list")
    assert "HassTurnOn" in tools, tools
    with subtest("a server of standard input and output has a unit of its own"):
        machine.wait_for_unit("gateway-mcp-echo.socket")
        connect = "${pkgs.socat}/bin/socat -t 2 - UNIX:/run/gateway-mcp/echo.sock"
        said = machine.succeed(f"printf hello | timeout 5 {connect}")
        assert said == "hello", said
        machine.fail(f"sudo -u nobody {connect}")
  '';
}
