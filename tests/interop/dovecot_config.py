"""
What L{tests.interop.dovecot} writes into C{dovecot.conf}: templates for C{str.format}.
"""

from __future__ import annotations

COMMON = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
log_timestamp =
instance_name = rig
protocols = imap
listen = {host}
shutdown_clients = yes
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{certificate}
disable_plaintext_auth = no
auth_failure_delay = 0
auth_mechanisms = {mechanisms}
auth_master_user_separator = *
auth_cache_size = 0
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
verbose_proctitle = no
first_valid_uid = 1
first_valid_gid = 1
login_trusted_networks = {trusted}
haproxy_trusted_networks = {host}
login_log_format_elements = user=<%u> rip=%r rport=%b lip=%l lport=%a method=%m mpid=%e %c session=<%{{session}}>
mail_max_userip_connections = {per_user}
{chroots}
service imap-login {{
  chroot =
  process_min_avail = {logins}
  inet_listener imap {{
    address = {host}
    port = {imap}
  }}
  inet_listener imaps {{
    address = {host}
    port = {imaps}
    ssl = yes
  }}
  inet_listener imap_haproxy {{
    address = {host}
    port = {haproxy}
    haproxy = yes
  }}
  inet_listener imaps_haproxy {{
    address = {host}
    port = {haproxy_tls}
    haproxy = yes
    ssl = yes
  }}
  unix_listener {folder}/imap.sock {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""

SERVER = """
mail_location = {format}:{folder}/mail/%u
mail_home = {folder}/mail/%u
mail_uid = {mail_uid}
mail_gid = {mail_gid}
mail_access_groups =
mail_plugins = acl quota notify zlib
mailbox_list_index = yes
mail_attribute_dict = file:%h/dovecot-attributes
imap_metadata = yes
imap_urlauth_host = localhost
lock_method = fcntl
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/masters
  master = yes
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={mail_uid} gid={mail_gid} home={folder}/mail/%u
}}
protocol imap {{
  mail_plugins = $mail_plugins imap_acl imap_quota imap_zlib
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
  mailbox Junk {{
    auto = create
    special_use = \\Junk
  }}
  mailbox Sent {{
    auto = create
    special_use = \\Sent
  }}
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
}}
plugin {{
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=1G
}}
service imap {{
  process_min_avail = 0
}}
service auth {{
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
service imap-urlauth-login {{
  chroot =
}}
"""

# A proxy's login processes do not read ssl_client_ca_file: OpenSSL's own way to name authorities is left.
PROXY = """
import_environment = $import_environment SSL_CERT_FILE={upstream_authority}
passdb {{
  driver = static
  args = proxy=y host=localhost hostip={host} port={upstream_port}{upstream_tls} nopassword=y
}}
"""

CHROOTS = """
service anvil {
  chroot =
}
service stats {
  chroot =
}
service director {
  chroot =
}
service ipc {
  chroot =
}
service dns_client {
  chroot =
}
service old-stats {
  chroot =
}
"""
