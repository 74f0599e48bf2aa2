# What pint holds the rules to, without a server to ask.
checks {
  disabled = [
    "promql/fragile",
    "promql/impossible",
    "rule/dependency",
  ]
}

# This one is meant to fire always.
rule {
  match {
    name = "SondeWatchdog"
  }
  disable = ["alerts/comparison"]
}

rule {
  match {
    kind = "alerting"
  }
  label "severity" {
    severity = "bug"
    value    = "critical|warning|info|none"
    required = true
  }
  annotation "summary" {
    severity = "bug"
    required = true
  }
  annotation "description" {
    severity = "bug"
    required = true
  }
  annotation "runbook_url" {
    severity = "bug"
    value    = "https://github.com/sonde-ebpf/sonde/blob/main/alerts/runbooks/Sonde.+\\.md"
    required = true
  }
  annotation "dashboard_url" {
    severity = "bug"
    value    = "/d/sonde-.+"
    required = true
  }
}
