"""The provider agent: offers, negotiates, runs scripts in a sandbox, meters, invoices."""
