# A NixOS module: imports = [ ./module.nix ]; services.truename.enable = true;
# Names of the machine come to it by the system's own configuration here, and not by `truename up`, since NixOS writes
# resolv.conf itself; `settings` has to say whom to ask then, since there are no other resolvers to be found. What of this was tried is said in packaging/recipes/README.md.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.truename;
  toml = pkgs.formats.toml { };
in
{
  options.services.truename = {
    enable = lib.mkEnableOption "truename, a local DNS forwarder";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      description = "The package to use.";
    };
    settings = lib.mkOption {
      type = toml.type;
      default = { };
      description = "The configuration, as in truename.toml(5).";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."truename/truename.toml".source = toml.generate "truename.toml" cfg.settings;
    users.users.truename = {
      isSystemUser = true;
      group = "truename";
      home = "/var/lib/truename";
    };
    users.groups.truename = { };
    systemd.packages = [ cfg.package ];
    systemd.sockets = lib.genAttrs [ "truename" "truename-stats" "truename-control" ] (_: {
      wantedBy = [ "sockets.target" ];
    });
    systemd.services.truename = {
      wantedBy = [ "multi-user.target" ];
      reloadTriggers = [ config.environment.etc."truename/truename.toml".source ];
    };
    networking.nameservers = [ "127.0.0.1" ];
  };
}
