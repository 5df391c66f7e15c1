"""Run folders -> tables and pages for people."""
