"""Servers on 127.0.0.1 that tests fetch from: a hostile web (`hostile`) and its names (`names`)."""
